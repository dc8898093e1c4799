"""What a request may hold: what is taken, and what a wrong one is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.texts import (
    check_boolean,
    check_choice,
    check_item,
    check_keys,
    check_text,
    check_whole,
)


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


def test_item_with_known_keys_passes() -> None:
    item: dict[str, object] = {"text": 1}
    assert check_item(item, ("text", "pair"), required=("text",)) is item


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (5, 'the input is a number; send {"text": "..."}'),
        (["secret"], 'the input is a list; send {"text": "..."}'),
        ({"secret": 1}, 'known are "text", "pair"'),
        ({"text": "a", "secret": 1}, 'known are "text", "pair"'),
        ({}, 'the input has no text; send {"text": "..."}'),
        ({"pair": "secret"}, 'the input has no text; send {"text": "..."}'),
    ],
)
def test_refused_items(item: object, says: str) -> None:
    assert says in refusal(lambda: check_item(item, ("text", "pair"), required=("text",)))


def test_all_that_an_item_lacks_is_told() -> None:
    says = refusal(lambda: check_item({}, ("a", "b"), required=("a", "b")))
    assert says == 'the input has no a, b; send {"a": "...", "b": "..."}'


@pytest.mark.parametrize("value", [1, 2, 5])
def test_whole_numbers_within_bounds_pass(value: int) -> None:
    assert check_whole(value, "top_k", 1, 5) == value


@pytest.mark.parametrize("value", [0, 6, -1, 10**30, True, False, None, "2", 1.0, 1.5, [1], {}])
def test_other_numbers_are_refused(value: object) -> None:
    says = refusal(lambda: check_whole(value, "top_k", 1, 5))
    assert says == "top_k must be a whole number from 1 to 5"


def test_booleans_pass() -> None:
    assert check_boolean(True, "multi") is True
    assert check_boolean(False, "multi") is False


@pytest.mark.parametrize("value", [0, 1, None, "true", []])
def test_what_is_no_boolean_is_refused(value: object) -> None:
    assert refusal(lambda: check_boolean(value, "multi")) == "multi must be true or false"


def test_a_choice_passes() -> None:
    assert check_choice("one", "kind", ("one", "two")) == "one"


@pytest.mark.parametrize("value", ["three", "", None, 1, ["one"], {"one": 1}])
def test_another_choice_is_refused(value: object) -> None:
    says = refusal(lambda: check_choice(value, "kind", ("one", "two")))
    assert says == "kind must be one of one, two"
