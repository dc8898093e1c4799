"""Texts and keys of a request: what is taken, and what a wrong one is told."""

from __future__ import annotations

import pytest

from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.texts import check_keys, take_texts


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ("a", ["a"]),
        (["a"], ["a"]),
        (["b", " a "], ["b", " a "]),
        ("\U0001f600 \u0000", ["\U0001f600 \u0000"]),
    ],
)
def test_texts_are_taken_unchanged(value: object, texts: list[str]) -> None:
    assert list(take_texts(value, max_texts=2)) == texts


@pytest.mark.parametrize(
    ("value", "status", "says"),
    [
        (None, 422, "the text is null; send a string or a list of strings"),
        (True, 422, "the text is a boolean"),
        (1, 422, "the text is a number"),
        (1.5, 422, "the text is a number"),
        ({"a": 1}, 422, "the text is an object"),
        ([], 422, "the list of texts is empty"),
        ("", 422, "the text is empty"),
        (" \n\t", 422, "the text is empty"),
        (["a", ""], 422, "text 1 of the list is empty"),
        (["a", None], 422, "text 1 of the list is null; send strings"),
        ([["a"]], 422, "text 0 of the list is a list"),
        ("secret \ud800", 422, "the text has half of a surrogate pair"),
        (["a", "\udfff"], 422, "text 1 of the list has half of a surrogate pair"),
        (["secret"] * 3, 413, "3 texts in one request; send at most 2"),
    ],
)
def test_refused_texts(value: object, status: int, says: str) -> None:
    with pytest.raises(RequestError) as caught:
        take_texts(value, max_texts=2)
    assert caught.value.status == status
    assert says in caught.value.message
    assert "secret" not in caught.value.message


def test_known_keys_pass() -> None:
    check_keys({"text": 1}, ("text", "top_k"))
    check_keys({}, ("text",))


def test_unknown_key_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RequestError) as caught:
        check_keys({"text": 1, "secret": 2}, ("text", "top_k"), where="parameters.")
    assert caught.value.status == 422
    assert 'known are "parameters.text", "parameters.top_k"' in caught.value.message
    assert "secret" not in caught.value.message
