"""Whatever clients send: a status that is known, JSON that is JSON, and neighbours in peace."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serving.helpers import post, read
from torchscript_bundle.serving.api.http import TEXT, HttpRequest, HttpResponse
from torchscript_bundle.serving.errors import REASONS
from torchscript_bundle.serving.service import Service

TEXTS = ["The film was long.", "Not bad at all."]
TENSOR = {"name": "text", "shape": [2], "datatype": "BYTES", "data": TEXTS}
GOOD = [
    post({"text": TEXTS, "top_k": 2}),
    post({"text": TEXTS[0], "text_pair": TEXTS[1]}),
    post({"instances": TEXTS}),
    post({"id": "x", "inputs": [TENSOR]}),
]

keys = st.one_of(
    st.sampled_from(["text", "text_pair", "inputs", "data", "top_k", "parameters", "x"]),
    st.sampled_from(["instances", "id", "outputs", "name", "shape", "datatype"]),
)
texts = st.text("ab é你\U0001f600[]\u0000\n", max_size=90) | st.text(max_size=20)
wild = texts | st.text("a\ud800\udfff", max_size=3)
scalars = wild | st.none() | st.booleans() | st.integers() | st.floats() | st.integers(0, 4)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)
top_k = st.none() | st.integers(1, 5) | scalars
options = st.fixed_dictionaries({}, optional={"top_k": top_k})
words = texts.map(lambda text: "a" + text)
pairs = st.fixed_dictionaries({"text": texts | words}, optional={"text_pair": words | wild})
items = st.lists(words, max_size=4) | st.lists(texts | pairs, max_size=4)


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, Any]:
    """An input of the Open Inference Protocol, mostly a right one."""
    data = draw(st.lists(words, min_size=1, max_size=3))
    right = {
        "name": draw(st.sampled_from(["text", "text", "text_pair", "x"])),
        "shape": draw(st.sampled_from([[len(data)], [len(data), 1], [1, len(data)]])),
        "datatype": "BYTES",
        "data": draw(st.sampled_from([data, data, [[text] for text in data]])),
    }
    wrong = draw(st.sampled_from([None] * 6 + [*right, "parameters", "secret"]))
    if wrong in right and draw(st.booleans()):
        del right[wrong]
        return right
    return right if wrong is None else {**right, wrong: draw(options | values | shapes)}


shapes = st.lists(st.integers(-2, 4) | st.integers(), max_size=4)
inferences = st.fixed_dictionaries(
    {"inputs": st.lists(tensors(), min_size=1, max_size=2)},
    optional={"id": words | wild, "parameters": options},
)
odd_inferences = st.fixed_dictionaries(
    {"inputs": st.lists(tensors() | values, max_size=3)},
    optional={
        "id": values,
        "parameters": options | values,
        "outputs": st.just([{"name": "answers"}]) | values,
    },
)
payloads = st.one_of(
    pairs,
    st.fixed_dictionaries({"inputs": items | pairs}, optional={"parameters": options}),
    st.fixed_dictionaries({"instances": items}, optional={"parameters": options}),
    st.fixed_dictionaries({"instances": items | values}, optional={"parameters": values}),
    inferences,
    odd_inferences,
    st.lists(texts, max_size=4),
    st.lists(texts, min_size=60, max_size=70),
    st.fixed_dictionaries({"inputs": texts | st.lists(texts, max_size=3)}),
    st.fixed_dictionaries({"text": texts, "top_k": top_k}),
    st.fixed_dictionaries({"data": wild, "parameters": st.fixed_dictionaries({"top_k": top_k})}),
    values,
)
documents = st.builds(
    lambda value, escape: json.dumps(value, ensure_ascii=escape).encode("utf-8", "surrogatepass"),
    payloads,
    st.booleans(),
)
odd = st.sampled_from([b"", b"\xef\xbb\xbf{}", b"9" * 5000, b"[" * 50_000, b'["a"]' * 2, b"1e999"])
bodies = st.one_of(
    documents,
    st.builds(lambda body, end: body[:end], documents, st.integers(0, 30)),
    texts.map(lambda text: text.encode("utf-8", "ignore")),
    st.binary(),
    odd,
)
content_types = st.one_of(
    st.sampled_from(["", "text/plain", "application/octet-stream", "application/json; charset=x"]),
    st.sampled_from(["text/plain; charset=latin-1", "image/png", "Application/LD+JSON ;", ";"]),
    st.text(max_size=20),
)
contents = st.tuples(documents, st.just("application/json")) | st.tuples(bodies, content_types)
accepts = st.one_of(
    st.just("*/*"),
    st.sampled_from(["text/plain", "application/json;q=0.1, text/*;q=0.2", ";q=,,/"]),
    st.text(max_size=20),
)
names = st.sampled_from([["body"]] * 9 + [["data"], ["data", "x"], ["x"], []])
purposes = st.sampled_from(["predict"] * 9 + ["explain", "describe"])


@st.composite
def requests(draw: st.DrawFn) -> HttpRequest:
    fields = {name: draw(contents) for name in draw(names)}
    return HttpRequest(
        {name: body for name, (body, _) in fields.items()},
        {name: content_type for name, (_, content_type) in fields.items()},
        draw(accepts),
        draw(purposes),
    )


def understand(response: HttpResponse) -> Any:
    """The status with the value of the body, which must be what its content type says."""
    assert response.status in REASONS
    assert response.status != 500
    if response.content_type == TEXT:
        assert response.status == 200
        lines = response.body.decode("utf-8").split("\n")
        assert set(lines) <= {"SAD", "SO-SO", "GLAD"}
        return lines
    value = read(response)
    if response.status != 200:
        assert list(value) == ["error"]
    return [response.status, value]


def same(value: Any, expected: Any) -> bool:
    """Equal, where floats may round otherwise in another batch, those in JSON in a string too."""
    if isinstance(value, str) and value[:1] in ("{", "[") and isinstance(expected, str):
        return value == expected or same(json.loads(value), json.loads(expected))
    if isinstance(value, float):
        return bool(value == pytest.approx(expected, abs=1e-4))
    if isinstance(value, dict):
        return value.keys() == expected.keys() and all(same(value[k], expected[k]) for k in value)
    if isinstance(value, list):
        return len(value) == len(expected) and all(map(same, value, expected))
    return bool(value == expected)


@pytest.mark.parametrize("batches", [250, pytest.param(2000, marks=pytest.mark.slow)])
def test_any_batch_is_answered(service: Callable[[str], Service], batches: int) -> None:
    bert = service("bert")

    @settings(
        deadline=None,
        max_examples=batches,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(
        sent=st.lists(requests(), min_size=1, max_size=3),
        at=st.integers(0, 3),
        good=st.sampled_from(GOOD),
    )
    def try_one(sent: list[HttpRequest], at: int, good: HttpRequest) -> None:
        batch = [*sent[:at], good, *sent[at:]]
        answers = [understand(response) for response in bert.answer(batch)]
        assert len(answers) == len(batch)
        for request, answer in zip(batch, answers, strict=True):
            [alone] = bert.answer([request])
            assert same(answer, understand(alone))
        assert answers[min(at, len(sent))][0] == 200

    try_one()
