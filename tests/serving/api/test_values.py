"""What a request may hold: what is taken, and what a wrong one is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from torchscript_bundle.serving.api.values import check_keys, check_text
from torchscript_bundle.serving.errors import RequestError


def refusal(check: Callable[[], object]) -> str:
    """What a check that refuses says; it never repeats what was sent."""
    with pytest.raises(RequestError) as caught:
        check()
    assert caught.value.status == 422
    assert "secret" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize("text", ["a", " a ", "\U0001f600 \u0000"])
def test_texts_are_taken_unchanged(text: str) -> None:
    assert check_text(text) == text


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "the text is null; send a string"),
        (True, "the text is a boolean; send a string"),
        (1, "the text is a number; send a string"),
        (1.5, "the text is a number; send a string"),
        ({"secret": 1}, "the text is an object; send a string"),
        (["secret"], "the text is a list; send a string"),
        ((), "the text is of another type; send a string"),
        ("", "the text is empty; send at least one word"),
        (" \n\t", "the text is empty; send at least one word"),
        ("secret \ud800", "the text has half of a surrogate pair"),
        ("\udfff", "the text has half of a surrogate pair"),
    ],
)
def test_refused_texts(value: object, says: str) -> None:
    assert refusal(lambda: check_text(value)).startswith(says)
    named = refusal(lambda: check_text(value, "the question"))
    assert named.startswith(says.replace("the text", "the question"))


def test_known_keys_pass() -> None:
    check_keys({"text": 1}, ("text", "top_k"))
    check_keys({}, ("text",))
    check_keys({}, ())


def test_unknown_key_is_refused_with_the_known_ones() -> None:
    says = refusal(
        lambda: check_keys({"text": 1, "secret": 2}, ("text", "top_k"), where="parameters.")
    )
    assert 'known are "parameters.text", "parameters.top_k"' in says
    assert refusal(lambda: check_keys({"secret": 2}, ())).endswith("known are none")
