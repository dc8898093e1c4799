"""Binary tensors after an Open Inference request's JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.serving.helpers import raw
from torchscript_bundle.serving.api.body import decode_body
from torchscript_bundle.serving.errors import RequestError


def packed(*texts: bytes) -> bytes:
    """Texts as the protocol's binary tensor data extension has them."""
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def tensor(size: object, **changes: Any) -> dict[str, Any]:
    return {"name": "text", "parameters": {"binary_data_size": size}, **changes}


def decode(payload: object, tail: bytes, json_size: str | None = None) -> Any:
    head = json.dumps(payload).encode()
    size = str(len(head)) if json_size is None else json_size
    return decode_body(replace(raw(head + tail), json_size=size), ())


def test_texts_are_the_data_of_their_inputs_in_order() -> None:
    one, two = packed("é".encode(), b"", b"b"), packed(b"c")
    plain = {"name": "x", "data": ["d"]}
    inputs = [tensor(len(one)), plain, tensor(len(two), shape=[1])]
    assert decode({"id": "7", "inputs": inputs}, one + two) == {
        "id": "7",
        "inputs": [
            {"name": "text", "parameters": {}, "data": ["é", "", "b"]},
            plain,
            {"name": "text", "parameters": {}, "data": ["c"], "shape": [1]},
        ],
    }


def test_without_a_tail_it_is_the_json() -> None:
    assert decode({"inputs": [{"name": "text", "data": ["a"]}]}, b"")["inputs"][0]["data"] == ["a"]


SIZES = "are not those of the bytes"


@pytest.mark.parametrize(
    ("payload", "tail", "says"),
    [
        ({"inputs": [tensor(5)]}, packed(b"ab"), SIZES),
        ({"inputs": [tensor(7)]}, packed(b"ab"), SIZES),
        ({"inputs": [tensor(6)]}, packed(b"ab") + b"more", SIZES),
        ({"inputs": [tensor(6)]}, b"\xff\xff\xff\xffab", SIZES),
        ({"inputs": [tensor(3)]}, b"\0\0\0", SIZES),
        ({"inputs": [tensor(-1)]}, packed(b"ab"), SIZES),
        ({"inputs": [tensor(True)]}, b"a", SIZES),
        ({"inputs": [tensor("6")]}, packed(b"ab"), SIZES),
        ({"inputs": [tensor(10**30)]}, packed(b"ab"), SIZES),
        ({"inputs": ["secret"]}, packed(b"ab"), SIZES),
        ({"inputs": "secret"}, packed(b"ab"), SIZES),
        (["secret"], packed(b"ab"), SIZES),
        ({"inputs": [tensor(6, data=["a"])]}, packed(b"ab"), "data and binary_data_size"),
        ({"inputs": [tensor(6)]}, packed(b"\xff\xff"), "not UTF-8"),
    ],
)
def test_sizes_that_do_not_fit(payload: object, tail: bytes, says: str) -> None:
    with pytest.raises(RequestError, match=says) as caught:
        decode(payload, tail)
    assert caught.value.status == 400
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("json_size", ["x", "-1", "1.5", "²", "999999", "9" * 5000, " "])
def test_a_json_size_that_is_none(json_size: str) -> None:
    with pytest.raises(RequestError, match="Inference-Header-Content-Length must be") as caught:
        decode({"inputs": []}, b"", json_size)
    assert caught.value.status == 400


def test_a_json_size_within_the_json() -> None:
    with pytest.raises(RequestError, match="declared as JSON but is not"):
        decode({"inputs": []}, b"", "3")


@given(st.binary(max_size=40), st.lists(st.integers(-1, 41), max_size=3))
def test_any_bytes_are_texts_or_refused(tail: bytes, sizes: list[int]) -> None:
    try:
        inputs = decode({"inputs": [tensor(size) for size in sizes]}, tail)["inputs"]
    except RequestError as error:
        assert error.status == 400
        return
    assert b"".join(packed(*(text.encode() for text in each["data"])) for each in inputs) == tail
