"""The Open Inference Protocol: tensors in, tensors out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.serving.api.protocols.helpers import (
    ASKS,
    KNOWN_OF_TEXTS,
    OBJECT_OF_TEXTS,
    TELLS,
    TEXTS,
    call,
    refusal,
)
from tests.serving.helpers import ask, post
from torchscript_bundle.export.archive import VERSION
from torchscript_bundle.serving.api.http import TEXT
from torchscript_bundle.serving.api.protocols.open_inference import FORM
from torchscript_bundle.serving.modes.base import Mode
from torchscript_bundle.serving.service import Service

Named = Callable[[str], Service]


def tensor(*data: object, name: object = "text", **changes: Any) -> dict[str, Any]:
    """An input, with some keys changed; None takes one out."""
    value = {"name": name, "shape": [len(data)], "datatype": "BYTES", "data": [*data], **changes}
    return {key: each for key, each in value.items() if each is not None}


def infer(*inputs: object, **changes: Any) -> dict[str, Any]:
    """A request."""
    return {"inputs": [*inputs], **changes}


@pytest.mark.parametrize(
    ("shape", "data", "texts"),
    [
        ([1], ["a"], ["a"]),
        ([3], ["a", "b", "c"], ["a", "b", "c"]),
        ([2, 1], ["a", "b"], ["a", "b"]),
        ([2, 1], [["a"], ["b"]], ["a", "b"]),
        ([1, 2], [["a", "b"]], ["a", "b"]),
        ([2, 1, 2], [[["a", "b"]], [["c", "d"]]], ["a", "b", "c", "d"]),
        ([], ["a"], ["a"]),
        ([0], [], []),
    ],
)
def test_elements_are_the_texts_in_row_major_order(
    shape: list[int], data: list[object], texts: list[str]
) -> None:
    read = call(infer(tensor(shape=shape, data=data)))
    assert read.items == [{"text": text} for text in texts]
    assert (read.parameters, read.listed) == ({}, True)


@pytest.mark.parametrize("name", ["text", "input_0", "", "secret"])
def test_a_single_input_is_the_text_whatever_its_name(name: str) -> None:
    assert call(infer(tensor("a", name=name))).items == [{"text": "a"}]


def test_several_inputs_are_the_members_of_one_object_each() -> None:
    pairs = infer(tensor("a", "b", name="text_pair"), tensor("c", "d"))
    assert call(pairs).items == [{"text_pair": "a", "text": "c"}, {"text_pair": "b", "text": "d"}]
    asked = infer(tensor("a", name="question"), tensor("b", name="context", shape=[1, 1]))
    assert call(asked, ASKS).items == [{"question": "a", "context": "b"}]


def test_a_single_input_with_another_key_of_an_item_is_that_member() -> None:
    assert call(infer(tensor("a", name="text_pair"))).items == [{"text_pair": "a"}]
    assert call(infer(tensor("a", name="context")), ASKS).items == [{"context": "a"}]


def test_reply_has_an_element_for_each_answer() -> None:
    answers = [{"label": "é", "score": 0.5}, [{"label": "x"}]]
    reply = call(infer(tensor("a", "b"), id="seven")).reply(answers)
    [output] = reply.pop("outputs")
    assert reply == {"id": "seven", "model_name": "tiny", "model_version": VERSION}
    data = output.pop("data")
    assert output == {"name": "answers", "shape": [2], "datatype": "BYTES"}
    assert [json.loads(each) for each in data] == answers
    assert "é" in data[0]


def test_without_an_id_the_reply_has_none() -> None:
    assert "id" not in call(infer(tensor("a"))).reply(["x"])


@pytest.mark.parametrize(
    "payload",
    [
        infer(tensor("a"), parameters={"top_k": 1, "stride": 2}),
        infer(tensor("a", parameters={"top_k": 1, "stride": 2})),
        infer(tensor("a", parameters={"top_k": 1}), parameters={"stride": 2}),
    ],
)
def test_parameters_of_the_request_and_of_its_inputs(payload: object) -> None:
    assert call(payload, TELLS).parameters == {"top_k": 1, "stride": 2}


@pytest.mark.parametrize(
    "outputs",
    [
        [],
        [{"name": "answers"}],
        [{"name": "answers", "parameters": {"binary_data": False}}],
        [{"name": "answers", "parameters": {"binary_data": True}}],
    ],
)
def test_the_output_may_be_named(outputs: object) -> None:
    assert call(infer(tensor("a"), outputs=outputs)).items == [{"text": "a"}]


@pytest.mark.parametrize("binary", [True, False])
def test_a_binary_reply_may_be_allowed_or_forbidden(binary: bool) -> None:
    asked = infer(tensor("a"), parameters={"binary_data_output": binary, "top_k": 1})
    assert call(asked).parameters == {"top_k": 1}


def test_the_name_of_the_model_may_be_told() -> None:
    assert call(infer(tensor("a"), model_name="tiny")).items == [{"text": "a"}]


KEYS = 'known are "id", "model_name", "inputs", "outputs", "parameters"'
LACKS = f"an input lacks its name, shape or data; send {FORM}"
TYPE = f"this model takes texts, datatype BYTES; send {FORM}"
SHAPE = f"the shape of an input is not that of its data; send {FORM}"
OUTPUT = 'the only output is {"name": "answers"}; send that, or none'
TWICE = "top_k is given twice; send it once"


@pytest.mark.parametrize(
    ("payload", "mode", "says"),
    [
        (infer(tensor("a"), secret=1), TEXTS, KEYS),
        (infer(tensor("a"), top_k=1), TEXTS, KEYS),
        (
            infer(tensor("a"), model_name="secret"),
            TEXTS,
            "model_name is not the model of this address; send its name",
        ),
        (
            infer(tensor("a"), parameters={"binary_data_output": 1}),
            TEXTS,
            "binary_data_output must be true or false",
        ),
        (infer(tensor("a"), id=5), TEXTS, "the id is a number; send a string"),
        (infer(tensor("a"), id=None), TEXTS, "the id is null; send a string"),
        (infer(tensor("a"), id=""), TEXTS, "the id is empty; send at least one word"),
        (
            infer(tensor("a"), id="secret\ud800"),
            TEXTS,
            "the id has half of a surrogate pair (\\ud800 to \\udfff); send whole characters",
        ),
        (infer(tensor("a"), outputs=None), TEXTS, OUTPUT),
        (infer(tensor("a"), outputs=["answers"]), TEXTS, OUTPUT),
        (infer(tensor("a"), outputs=[{"name": "secret"}]), TEXTS, OUTPUT),
        (infer(tensor("a"), outputs=[{"name": "answers", "secret": 1}]), TEXTS, OUTPUT),
        (infer(tensor("a"), "secret"), TEXTS, f"an input is no object; send {FORM}"),
        (
            infer(tensor("a", secret=1)),
            TEXTS,
            'known are "inputs.name", "inputs.shape", "inputs.datatype", "inputs.data", '
            '"inputs.parameters"',
        ),
        (infer(tensor("a", datatype=None)), TEXTS, TYPE),
        (infer(tensor("a", datatype="FP32")), TEXTS, TYPE),
        (infer(tensor("a", datatype="bytes")), TEXTS, TYPE),
        (infer(tensor("a", datatype=["BYTES"])), TEXTS, TYPE),
        (infer(tensor(5, datatype="INT64")), TEXTS, TYPE),
        (infer(tensor("a", name=None)), TEXTS, LACKS),
        (infer(tensor("a", name=5)), TEXTS, LACKS),
        (infer(tensor("a", shape=None)), TEXTS, LACKS),
        (infer(tensor("a", shape=1)), TEXTS, LACKS),
        (infer(tensor("a", data=None)), TEXTS, LACKS),
        (infer(tensor("a", data="secret")), TEXTS, LACKS),
        (infer(tensor("a", "b", shape=[1])), TEXTS, SHAPE),
        (infer(tensor("a", shape=[2])), TEXTS, SHAPE),
        (infer(tensor("a", shape=[0])), TEXTS, SHAPE),
        (infer(tensor("a", shape=[-1])), TEXTS, SHAPE),
        (infer(tensor("a", shape=[-1, -1])), TEXTS, SHAPE),
        (infer(tensor("a", shape=[1.0])), TEXTS, SHAPE),
        (infer(tensor("a", shape=[True])), TEXTS, SHAPE),
        (infer(tensor("a", shape=["1"])), TEXTS, SHAPE),
        (infer(tensor("a", shape=[[1]])), TEXTS, SHAPE),
        (infer(tensor("a", shape=[10**4000] * 3)), TEXTS, SHAPE),
        (infer(tensor("a", "b", shape=[2, 0])), TEXTS, SHAPE),
        (infer(tensor(shape=[])), TEXTS, SHAPE),
        (infer(tensor("a", ["b"])), TEXTS, "data is partly nested; send a flat list"),
        (infer(tensor(["a", ["b"]])), TEXTS, "data is partly nested; send a flat list"),
        (
            infer(tensor("a"), tensor("b")),
            TEXTS,
            "two inputs have the same name; give each its own",
        ),
        (
            infer(tensor("a"), tensor("b", "c", name="text_pair")),
            TEXTS,
            "the inputs have different numbers of elements; send equally many",
        ),
        (
            infer(tensor("a"), tensor("b", name="secret")),
            TEXTS,
            "the inputs of this model are text, text_pair",
        ),
        (
            infer(tensor("a", name="secret"), tensor("b", name="other")),
            TEXTS,
            "the inputs of this model are text, text_pair",
        ),
        (infer(tensor("a")), ASKS, "the inputs of this model are question, context"),
        (infer(tensor("a"), parameters=[]), TEXTS, OBJECT_OF_TEXTS),
        (infer(tensor("a", parameters="x")), TEXTS, OBJECT_OF_TEXTS),
        (infer(tensor("a", parameters={"secret": 1})), TEXTS, KNOWN_OF_TEXTS),
        (
            infer(tensor("a", parameters={"top_k": 1}), parameters={"top_k": 1}),
            TEXTS,
            TWICE,
        ),
        (
            infer(
                tensor("a", parameters={"top_k": 1}),
                tensor("a", name="text_pair", parameters={"top_k": 1}),
            ),
            TEXTS,
            TWICE,
        ),
    ],
)
def test_refused_forms(payload: object, mode: Mode, says: str) -> None:
    assert refusal(payload, mode).endswith(says)


def test_a_shape_of_many_sizes_is_not_multiplied_out() -> None:
    started = time.thread_time()
    assert refusal(infer(tensor("a", "b", shape=[2] * 10**6))).endswith(SHAPE)
    assert time.thread_time() - started < 1


@pytest.mark.parametrize("named", [True, False])
def test_answers_are_those_of_the_native_form(service: Named, named: bool) -> None:
    option = {"parameters": {"top_k": 2}}
    texts = tensor("We waited.", "Not bad.", name="text" if named else "x")
    status, plain = ask(service("bert"), {"inputs": ["We waited.", "Not bad."], **option})
    assert status == 200
    status, reply = ask(service("bert"), infer(texts, id="seven", **option))
    assert (status, reply["id"]) == (200, "seven")
    assert [json.loads(each) for each in reply["outputs"][0]["data"]] == plain


def test_pairs_get_the_answers_of_the_native_form(service: Named) -> None:
    pairs = [{"text": "a", "text_pair": "b"}, {"text": "c", "text_pair": "d"}]
    status, plain = ask(service("bert"), pairs)
    assert status == 200
    tensors = infer(tensor("a", "c"), tensor("b", "d", name="text_pair"))
    [output] = ask(service("bert"), tensors)[1]["outputs"]
    assert [json.loads(each) for each in output["data"]] == plain


@pytest.mark.parametrize(
    ("payload", "status", "says"),
    [
        (infer(tensor()), 422, "the list is empty; send at least one text"),
        (
            infer(tensor("a", 5)),
            422,
            "item 1 of the list: the text is a number; send a string",
        ),
        (
            infer(tensor("a", {"text": "a"}, name="x")),
            422,
            "item 1 of the list: the text is an object; send a string",
        ),
        (
            infer(tensor("a", name="text_pair")),
            422,
            'item 0 of the list: the input has no text; send {"text": "..."}',
        ),
        (infer(tensor(*["a"] * 65)), 413, "65 texts in one request; send at most 64 at a time"),
    ],
)
def test_wrong_items_are_told_as_in_the_native_form(
    service: Named, payload: object, status: int, says: str
) -> None:
    assert ask(service("bert"), payload) == (status, {"error": says})


def test_plain_text_is_a_line_for_each_element(service: Named) -> None:
    texts = ["We waited.", "Not bad."]
    labels = [entry["label"] for entry in ask(service("bert"), texts)[1]]
    [bare] = service("bert").answer([post(infer(tensor(*texts)), accept="text/plain")])
    assert (bare.status, bare.content_type) == (200, TEXT)
    assert bare.body.decode().split("\n") == labels
