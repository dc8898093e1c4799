"""Parameters, wherever a request gives them, and which protocol a request is taken to speak."""

from __future__ import annotations

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
from torchscript_bundle.serving.api import protocols
from torchscript_bundle.serving.api.http import Client
from torchscript_bundle.serving.api.protocols import first_keys
from torchscript_bundle.serving.api.protocols.call import (
    Call,
    RequestFields,
    RequestProtocol,
    read_parameters,
)
from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.modes.base import Mode

TENSOR = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}


@pytest.mark.parametrize(
    ("holders", "found"),
    [
        ([], {}),
        ([{}], {}),
        ([{"parameters": {}}, {"x": 1}], {}),
        ([{"parameters": {"top_k": 1}}], {"top_k": 1}),
        ([{"parameters": {"top_k": None}}, {"parameters": {}}], {"top_k": None}),
        (
            [{"parameters": {"top_k": 1}}, {"parameters": {"stride": "x"}}],
            {"top_k": 1, "stride": "x"},
        ),
    ],
)
def test_parameters_are_gathered_unchecked(
    holders: list[dict[str, object]], found: dict[str, object]
) -> None:
    assert read_parameters(holders, TELLS) == found


@pytest.mark.parametrize(
    ("holders", "mode", "says"),
    [
        ([{"parameters": {"secret": 1}}], TEXTS, KNOWN_OF_TEXTS),
        (
            [{"parameters": {"secret": 1}}],
            TELLS,
            'known are "parameters.top_k", "parameters.stride"',
        ),
        ([{"parameters": {"top_k": 1}}], ASKS, "known are none"),
        ([{"parameters": None}], TEXTS, OBJECT_OF_TEXTS),
        ([{"parameters": ["secret"]}], TELLS, "parameters must be an object, with top_k or stride"),
        (
            [{"parameters": "secret"}],
            ASKS,
            "parameters must be an object, and empty for this model",
        ),
        ([{"parameters": {"top_k": 1}}] * 2, TEXTS, "top_k is given twice; send it once"),
        (
            [{}, {"parameters": {"stride": 1}}, {"parameters": {"stride": 1}}],
            TELLS,
            "stride is given twice; send it once",
        ),
    ],
)
def test_refused_parameters(holders: list[dict[str, object]], mode: Mode, says: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_parameters(holders, mode)
    assert caught.value.status == 422
    assert caught.value.message.endswith(says)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("payload", "answer"),
    [
        ("a", "answer"),
        (["a"], ["answer"]),
        ({"text": "a"}, "answer"),
        ({"inputs": ["a"]}, ["answer"]),
        ({"inputs": [{"text": "a"}]}, ["answer"]),
        ({"instances": ["a"]}, {"predictions": ["answer"]}),
    ],
)
def test_protocol_is_seen_in_the_keys(payload: object, answer: object) -> None:
    assert call(payload).reply(["answer"]) == answer


@pytest.mark.parametrize("payload", [{"inputs": [TENSOR]}, {"inputs": [TENSOR], "id": "x"}])
def test_inputs_that_are_tensors_are_open_inference(payload: dict[str, Any]) -> None:
    assert call(payload).reply(["answer"])["model_name"] == "tiny"


class Lines(RequestProtocol):
    """A further protocol: a text, an item a line."""

    keys = ("lines",)

    def recognizes(self, payload: object, client: Client) -> bool:
        return isinstance(payload, dict) and "lines" in payload

    def read(self, payload: Any, fields: RequestFields, model_name: str) -> Call:
        return Call(payload["lines"].split("\n"), {}, "\n".join)


def test_a_protocol_is_one_entry_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    request = {"lines": "a\nb"}
    assert "lines" not in first_keys(TEXTS)
    assert "lines" not in refusal(request)
    monkeypatch.setattr(protocols, "PROTOCOLS", (Lines(), *protocols.PROTOCOLS))
    assert "lines" in first_keys(TEXTS)
    read = call(request)
    assert (read.items, read.reply(["x", "y"])) == (["a", "b"], "x\ny")
    assert call({"text": "a"}).items == ["a"]
