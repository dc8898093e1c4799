"""Fields: what is taken, what a wrong value is told, and a schema that says the same."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from tokenizers import Tokenizer

from tests.serving.helpers import EACH_MODE
from torchscript_bundle.serving.api.fields import (
    NOT_BLANK,
    TEXT,
    Boolean,
    Choice,
    Choices,
    Field,
    Text,
    Texts,
    Whole,
    named,
    read_item,
    read_values,
)
from torchscript_bundle.serving.artifact import TOKENIZER_FILE, Bundle
from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.modes import load_mode

TOP_K = Whole("top_k", "", least=1, most=5)
PAIR = named(TEXT, Text("pair", ""))
KIND = Choice("kind", "", choices=("one", "two"))
LIST = Texts("words", "", each="word", most=3, longest=4, required=True, aliases=("terms",))
SMALL: list[Field] = [
    TEXT,
    Text("short", "", most=3),
    Text("template", "", most=9, pattern=r"^[^{}]*\{\}[^{}]*$", must="hold {} once"),
    TOP_K,
    Whole("open", "", least=1, null=7),
    Boolean("multi", ""),
    KIND,
    Choice("none", "", choices=()),
    Choices("kinds", "", choices=("one", "two")),
    LIST,
]


def refusal(check: Callable[[], object], status: int = 422) -> str:
    """What a check that refuses says; it never repeats what was sent."""
    with pytest.raises(RequestError) as caught:
        check()
    assert caught.value.status == status
    assert "secret" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (TEXT, " a "),
        (Text("short", "", most=3), "\U0001f600bc"),
        *((TOP_K, value) for value in (1, 2, 5)),
        (Whole("open", "", least=1), 10**30),
        (Boolean("multi", ""), True),
        (Boolean("multi", ""), False),
        (KIND, "one"),
        (Choices("kinds", "", choices=("one", "two")), ["two", "one", "two"]),
        (Choices("kinds", "", choices=("one",)), []),
        (LIST, ["a", "bcde", " f"]),
    ],
)
def test_right_values_are_taken_unchanged(field: Field, value: object) -> None:
    assert field.check(value) == value
    assert type(field.check(value)) is type(value)


def test_null_stands_for_all_where_it_may_be_sent() -> None:
    every = Whole("top_k", "", least=1, null=7)
    assert every.check(None) == 7
    assert refusal(lambda: every.check(0)) == (
        "top_k must be a whole number of at least 1, or null for all"
    )


@pytest.mark.parametrize("value", [0, 6, -1, 10**30, True, False, None, "2", 1.0, 1.5, [1], {}])
def test_other_numbers_are_refused(value: object) -> None:
    says = refusal(lambda: TOP_K.check(value))
    assert says == "top_k must be a whole number from 1 to 5"


@pytest.mark.parametrize("value", [0, 1, None, "true", []])
def test_what_is_no_boolean_is_refused(value: object) -> None:
    assert refusal(lambda: Boolean("multi", "").check(value)) == "multi must be true or false"


@pytest.mark.parametrize("value", ["three", "", None, 1, ["one"], {"one": 1}])
def test_another_choice_is_refused(value: object) -> None:
    assert refusal(lambda: KIND.check(value)) == "kind must be one of one, two"


@pytest.mark.parametrize("value", ["one", None, ["three"], [["one"]], [1], {"one": 1}])
def test_other_choices_are_refused(value: object) -> None:
    says = refusal(lambda: Choices("kinds", "", choices=("one", "two")).check(value))
    assert says == "kinds must be a list of any of one, two"


def test_a_choice_of_nothing_and_one_of_very_many() -> None:
    says = refusal(lambda: Choice("kind", "", choices=()).check("one"))
    assert says == "this model has no kind; leave it out"
    many = Choice("kind", "", choices=[f"kind {at}" for at in range(10_000)])
    assert many.check("kind 9999") == "kind 9999"
    assert len(refusal(lambda: many.check("secret"))) < 300
    assert many.bounds() == {"type": "string"}


@pytest.mark.parametrize(
    ("value", "status", "says"),
    [
        ("a", 422, "words must be a list of 1 to 3 strings, and is a string"),
        (None, 422, "words must be a list of 1 to 3 strings, and is null"),
        ([], 422, "words must be a list of 1 to 3 strings, and is an empty list"),
        (["a"] * 4, 413, "4 words; send at most 3"),
        (["a", 5], 422, "word 1 is a number; send a string"),
        (["a", " "], 422, "word 1 is empty; send at least one word"),
        (["secret"], 422, "word 0 is over 4 characters; send a shorter one"),
    ],
)
def test_other_lists_are_refused(value: object, status: int, says: str) -> None:
    assert refusal(lambda: LIST.check(value), status) == says


def test_a_pattern_is_asked_for_in_words() -> None:
    template = Text("template", "", pattern="^a", must="begin with a")
    assert refusal(lambda: template.check("secret")) == "template must begin with a"
    assert template.check("abc") == "abc"


def test_what_is_left_out_has_its_default() -> None:
    fields = named(TOP_K, Boolean("multi", "", default=False))
    assert read_values(fields, {}) == {"top_k": None, "multi": False}
    assert read_values(fields, {"multi": True}) == {"top_k": None, "multi": True}


def test_what_is_required_is_told_as_if_it_were_null() -> None:
    says = refusal(lambda: read_values(named(LIST), {}))
    assert says.startswith("words must be a list of 1 to 3 strings")


def test_another_key_does_as_well_but_not_both() -> None:
    fields = named(LIST)
    assert read_values(fields, {"terms": ["a"]}) == {"words": ["a"]}
    assert read_item(fields, {"terms": ["a"]}) == {"words": ["a"]}
    both = {"terms": ["a"], "words": ["a"]}
    assert refusal(lambda: read_item(fields, both)) == (
        "words and terms are the same; send one of them"
    )


def test_an_item_may_be_its_text_alone() -> None:
    assert read_item(PAIR, "a") == {"text": "a", "pair": None}
    assert read_item(PAIR, {"text": "a", "pair": "b"}) == {"text": "a", "pair": "b"}


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (5, "the text is a number; send a string"),
        (["secret"], "the text is a list; send a string"),
        ({"secret": 1}, 'known are "text", "pair"'),
        ({"text": "a", "secret": 1}, 'known are "text", "pair"'),
        ({}, 'the input has no text; send {"text": "..."}'),
        ({"pair": "secret"}, 'the input has no text; send {"text": "..."}'),
        ({"text": "secret", "pair": None}, "pair is null; send a string"),
    ],
)
def test_refused_items(item: object, says: str) -> None:
    assert says in refusal(lambda: read_item(PAIR, item))


def test_all_that_an_item_lacks_is_told() -> None:
    fields = named(Text("a", "", required=True), LIST, Text("b", ""))
    assert refusal(lambda: read_item(fields, {})) == (
        'the input has no a, words; send {"a": "...", "words": ["...", "..."]}'
    )
    assert refusal(lambda: read_item(fields, "secret")) == (
        'the input is a string; send {"a": "...", "words": ["...", "..."]}'
    )


def test_blank_is_what_python_strips() -> None:
    """In patterns as well, whose `\\s` differs from one dialect to the next."""
    characters = [chr(code) for code in range(sys.maxunicode + 1)]
    text = "".join(each for each in characters if not each.strip())
    assert not re.search(NOT_BLANK, text)
    assert len(re.findall(NOT_BLANK, "".join(characters))) == len(characters) - len(text)


blank = st.text(" \t\n\x1c\x85\xa0\u2028\u3000\ufeff\u200b", max_size=3)
strings = st.one_of(st.text(max_size=5), blank, st.text("a{},", max_size=9), st.just("one"))
#: Without floats such as 1.0: JSON Schema takes them for whole numbers, Python does not.
floats = st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: not x.is_integer())
scalars = st.one_of(strings, st.none(), st.booleans(), floats, st.integers(-1, 300))
values = st.one_of(
    scalars,
    st.integers(),
    st.lists(strings | st.sampled_from(["one", "two"]), max_size=5),
    st.lists(scalars | st.lists(strings, max_size=1), max_size=3),
    st.dictionaries(strings, scalars, max_size=2),
)


def accepts(field: Field, value: object) -> bool:
    """Whether a field takes a value."""
    try:
        field.check(value)
    except RequestError:
        return False
    return True


def agree(field: Field, value: Any) -> bool:
    """Whether the schema says of a value what the check says."""
    validator = Draft202012Validator(field.schema())
    return validator.is_valid(value) == accepts(field, value)


@pytest.mark.parametrize("field", SMALL, ids=lambda field: str(field.name))
@settings(deadline=None, derandomize=True, max_examples=300)
@given(value=values)
def test_the_schema_takes_what_the_check_takes(field: Field, value: object) -> None:
    assert agree(field, value)


@pytest.mark.parametrize("name", EACH_MODE)
@settings(
    deadline=None,
    derandomize=True,
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_the_fields_of_every_mode(
    artifact: Callable[[str], Path], name: str, data: st.DataObject
) -> None:
    mode = load_mode(Bundle.load(artifact(name)))
    mode.set_tokenizer(Tokenizer.from_file(str(artifact(name) / TOKENIZER_FILE)))
    for field in {**mode.item_keys, **mode.parameters}.values():
        Draft202012Validator.check_schema(field.schema())
        assert field.description
        if field.default is not None:
            assert accepts(field, field.default) and agree(field, field.default)
        if field.required:
            assert accepts(field, field.example) and agree(field, field.example)
        assert agree(field, data.draw(values))
