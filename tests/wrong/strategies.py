"""Random requests of a mode: mostly nearly right, so that later checks are met as well."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from tests.wrong.addresses import ADDRESSES
from tests.wrong.rows import Sample

Strategy = st.SearchStrategy[Any]

texts = st.text("ab é你\U0001f600[]{}\u0000\n", max_size=60) | st.text(max_size=20)
words = texts.map(lambda text: "a" + text) | st.sampled_from(["It works.", "a [MASK] film", "soup"])
wild = texts | st.text("a\ud800\udfff", max_size=3)
numbers = st.integers(-1, 9) | st.integers() | st.floats() | st.sampled_from([100, 101, 10**400])
scalars = wild | st.none() | st.booleans() | numbers
keys = st.sampled_from(["text", "inputs", "data", "parameters", "x", "instances", "id", "name"])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)
#: What one parameter or another takes.
settings = st.one_of(
    st.integers(1, 40),
    st.booleans(),
    st.sampled_from(["none", "simple", "first", "It is {}.", "food, film", "{} {}", "query"]),
    st.lists(st.sampled_from(["O", "PER", "B-PER", "film", "hour", "food", "a"]), max_size=3),
    st.lists(words, max_size=20),
    values,
)
seldom = st.integers(0, 9).map(lambda number: number == 0)


#: Names of each mode's parameters; most modes know theirs only with a model.
PARAMETERS = {
    "sequence_classification": ("top_k", "raw_scores", "truncate", "truncation_direction"),
    "token_classification": ("aggregation_strategy", "stride", "ignore_labels"),
    "question_answering": ("top_k", "max_answer_len", "handle_impossible_answer", "doc_stride"),
    "fill_mask": ("top_k", "targets"),
    "feature_extraction": ("normalize", "prompt_name", "truncate", "dimensions"),
    "sparse_embedding": ("top_k", "return_tokens", "prompt_name", "truncate"),
    "reranking": ("top_n", "return_documents", "raw_scores", "truncate"),
    "zero_shot_classification": ("candidate_labels", "multi_label", "hypothesis_template"),
}


def documents(sample: Sample) -> Strategy:
    """JSON of requests of all three protocols, as a value."""
    names = PARAMETERS[sample.mode]
    lists = {key for key, value in sample.item.items() if isinstance(value, list)}

    @st.composite
    def items(draw: st.DrawFn) -> Any:
        item = {
            key: draw(st.just(right) | (st.lists(words, max_size=4) if key in lists else words))
            for key, right in sample.item.items()
        }
        if draw(seldom):
            others = ("text", "text_pair", "texts", "x")
            item[draw(st.sampled_from([*sample.item, *others]))] = draw(values)
        if draw(seldom):
            item.pop(draw(st.sampled_from(sorted(sample.item))), None)
        return draw(words) if set(item) == {"text"} and draw(st.booleans()) else item

    @st.composite
    def parameters(draw: st.DrawFn) -> Any:
        chosen = draw(st.dictionaries(st.sampled_from(names), settings, max_size=2))
        if draw(seldom):
            return draw(st.just(chosen) | st.dictionaries(keys, values, max_size=2) | values)
        return {**sample.parameters, **chosen}

    @st.composite
    def tensors(draw: st.DrawFn) -> Any:
        count = draw(st.integers(1, 3))
        tensor = {
            "name": draw(st.sampled_from([*sample.item, *sample.item, "x"])),
            "shape": draw(st.sampled_from([[count], [count, 1], [1, count]])),
            "datatype": "BYTES",
            "data": draw(st.lists(words, min_size=count, max_size=count)),
        }
        if draw(seldom):
            tensor[draw(st.sampled_from([*tensor, "parameters"]))] = draw(values)
        if draw(seldom):
            del tensor[draw(st.sampled_from(sorted(tensor)))]
        return tensor

    many_texts = words | st.lists(words | values, max_size=4)
    of_others = st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("input", "inputs", "documents", "texts"), many_texts),
            **{"query": words, "model": st.just("") | values, "truncate": st.booleans() | values},
            **dict.fromkeys(("dimensions", "top_n", "return_text", "raw_scores"), settings),
        },
    )
    many = items() | st.lists(items(), max_size=3) | items().map(lambda item: [item] * 70)
    listed = st.lists(items() | values, max_size=3)
    return st.one_of(
        st.fixed_dictionaries({"inputs": many, "parameters": parameters()}),
        st.fixed_dictionaries({"inputs": many}, optional={"parameters": parameters()}),
        st.tuples(items(), parameters()).map(_merged),
        st.fixed_dictionaries({"instances": listed}, optional={"parameters": parameters()}),
        st.fixed_dictionaries(
            {"inputs": st.lists(tensors() | tensors() | values, max_size=2)},
            optional={"parameters": parameters(), "id": words | values, "outputs": values},
        ),
        of_others,
        many,
        values,
    )


def _merged(parts: tuple[Any, Any]) -> Any:
    """An item with its parameters beside it."""
    item, parameters = parts
    both = isinstance(item, dict) and isinstance(parameters, dict)
    return {**item, **parameters} if both else item


def contents(sample: Sample) -> Strategy:
    """Bodies with their content types: JSON as it should be, for the most part."""
    right = st.tuples(_whole(sample), st.just("application/json"))
    return st.one_of(right, right, right, st.tuples(bodies(sample), content_types))


def bodies(sample: Sample) -> Strategy:
    """Bodies as bytes: JSON whole, cut or with a byte changed, texts, and anything at all."""
    whole = _whole(sample)
    return st.one_of(
        whole,
        whole,
        st.builds(lambda body, end: body[:end], whole, st.integers(0, 60)),
        st.builds(_with_other_byte, whole, st.integers(0, 60), st.binary(max_size=2)),
        texts.map(lambda text: text.encode("utf-8", "ignore")),
        st.binary(),
        st.sampled_from([b"[" * 20_000, b"9" * 5000, b"1e999", b"\xef\xbb\xbf{}", b'"a"' * 2]),
    )


def _whole(sample: Sample) -> Strategy:
    return st.builds(_dump, documents(sample), st.booleans())


def _with_other_byte(body: bytes, at: int, byte: bytes) -> bytes:
    return body[:at] + byte + body[at + 1 :]


def _dump(value: Any, escape: bool) -> bytes:
    return json.dumps(value, ensure_ascii=escape).encode("utf-8", "surrogatepass")


content_types = st.one_of(
    st.just("application/json"),
    st.just("application/json"),
    st.sampled_from(["", "text/plain", "application/octet-stream", "application/json; charset=x"]),
    st.sampled_from(["text/plain; charset=latin-1", "image/png", "Application/LD+JSON ;", ";"]),
    st.text('abz/;=+ "é\xff', max_size=20),
)
#: Where a request goes after the model's version: mostly nowhere.
addresses = st.just("") | st.sampled_from(["", "chat/completions", "info", "x", *ADDRESSES])
accepts = st.one_of(
    st.just("*/*"),
    st.sampled_from(["text/plain", "application/json;q=0.1, text/*;q=0.2", ";q=,,/", "q=nan"]),
    st.text("ab/;=,*q.01 \xff", max_size=20),
)
