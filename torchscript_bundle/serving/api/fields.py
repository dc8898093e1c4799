"""Fields of requests: each states its name, bounds, check and JSON Schema once."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from torchscript_bundle.serving.api.json_schema import JsonSchema, array, words
from torchscript_bundle.serving.api.values import check_keys, check_text, type_name
from torchscript_bundle.serving.errors import RequestError

#: White space as `str.strip` takes it; `\s` is another set in each dialect of patterns.
SPACE = r"\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
NOT_BLANK = f"[^{SPACE}]"

#: Most choices that an error lists.
LISTED = 20


@dataclass(frozen=True)
class Field(ABC):
    """A member of an item, or a parameter; `aliases` are other keys for it."""

    name: str
    description: str
    _: KW_ONLY
    required: bool = False
    default: Any = None
    aliases: tuple[str, ...] = ()
    example: Any = "It works as described."

    #: How errors show a value.
    form = '"..."'

    @property
    def names(self) -> tuple[str, ...]:
        """All its keys."""
        return (self.name, *self.aliases)

    @abstractmethod
    def check(self, value: object) -> Any:
        """Return a valid value; raise RequestError that says what to send instead."""

    @abstractmethod
    def bounds(self) -> JsonSchema:
        """Return the part of what `check` accepts that JSON Schema can express."""

    def schema(self) -> JsonSchema:
        """Return the field's schema with its description and default."""
        default = {} if self.default is None else {"default": self.default}
        return {"description": self.description, **self.bounds(), **default}


@dataclass(frozen=True, kw_only=True)
class Text(Field):
    """A text that is not blank, of up to `most` characters.

    `pattern` is searched in it and means the same in Python and JSON Schema; in errors, `must` says
    what it demands, and `called` replaces the name.
    """

    most: int | None = None
    pattern: str = NOT_BLANK
    must: str = ""
    called: str = ""

    def check(self, value: object) -> str:
        text = _check_text(value, self.called or self.name, self.most)
        if not re.search(self.pattern, text):
            raise RequestError(422, f"{self.name} must {self.must}")
        return text

    def bounds(self) -> JsonSchema:
        most = {} if self.most is None else {"maxLength": self.most}
        return {"type": "string", "pattern": self.pattern, **most}


#: The text of the modes whose items may be a text alone.
TEXT = Text("text", "The text.", required=True, called="the text")


@dataclass(frozen=True, kw_only=True)
class Whole(Field):
    """An integer from `least` to `most`; null, where it may be sent, means `null`, all of them."""

    least: int
    most: int | None = None
    null: int | None = None

    def check(self, value: object) -> int:
        if value is None and self.null is not None:
            return self.null
        most = math.inf if self.most is None else self.most
        if type(value) is not int or not self.least <= value <= most:
            between = f"from {self.least} to {self.most}"
            bounds = f"of at least {self.least}" if self.most is None else between
            null = "" if self.null is None else ", or null for all"
            raise RequestError(422, f"{self.name} must be a whole number {bounds}{null}")
        return value

    def bounds(self) -> JsonSchema:
        kind = "integer" if self.null is None else ["integer", "null"]
        most = {} if self.most is None else {"maximum": self.most}
        return {"type": kind, "minimum": self.least, **most}


@dataclass(frozen=True, kw_only=True)
class Number(Field):
    """A number from `least` (above it where `open`) to `most`."""

    least: float
    most: float
    open: bool = False

    def check(self, value: object) -> float:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not self.least <= value <= self.most
            or (self.open and value == self.least)
        ):
            least = f"above {self.least:g}" if self.open else f"of at least {self.least:g}"
            raise RequestError(
                422, f"{self.name} must be a number {least} and at most {self.most:g}"
            )
        return float(value)

    def bounds(self) -> JsonSchema:
        least = {"exclusiveMinimum" if self.open else "minimum": self.least}
        return {"type": "number", **least, "maximum": self.most}


@dataclass(frozen=True)
class Boolean(Field):
    """True or false."""

    def check(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise RequestError(422, f"{self.name} must be true or false")
        return value

    def bounds(self) -> JsonSchema:
        return {"type": "boolean"}


@dataclass(frozen=True, kw_only=True)
class Choice(Field):
    """One of some strings; without `choices`, the model lacks the field."""

    choices: Sequence[str]

    def check(self, value: object) -> str:
        if not self.choices:
            raise RequestError(422, f"this model has no {self.name}; leave it out")
        if not isinstance(value, str) or value not in self.choices:
            raise RequestError(422, f"{self.name} must be one of {listed(self.choices)}")
        return value

    def bounds(self) -> JsonSchema:
        return words(self.choices) if self.choices else {"not": {}}


@dataclass(frozen=True, kw_only=True)
class Choices(Field):
    """A list of any of some strings."""

    choices: Sequence[str]

    def check(self, value: object) -> list[str]:
        known = set(self.choices)
        if not isinstance(value, list) or not all(
            isinstance(each, str) and each in known for each in value
        ):
            raise RequestError(422, f"{self.name} must be a list of any of {listed(self.choices)}")
        return value

    def bounds(self) -> JsonSchema:
        return array(words(self.choices))


@dataclass(frozen=True, kw_only=True)
class Texts(Field):
    """A list of up to `most` texts of up to `longest` characters.

    Errors name `each` text and offer `otherwise`; too many texts get the status `too_many`.
    """

    each: str
    most: int
    longest: int | None = None
    too_many: int = 413
    otherwise: str = ""

    form = '["...", "..."]'

    def check(self, value: object) -> list[str]:
        if not isinstance(value, list) or not value:
            what = "an empty list" if value == [] else type_name(value)
            raise RequestError(
                422,
                f"{self.name} must be a list of 1 to {self.most} strings{self.otherwise}, "
                f"and is {what}",
            )
        if len(value) > self.most:
            raise RequestError(self.too_many, f"{len(value)} {self.name}; send at most {self.most}")
        return [_check_text(each, f"{self.each} {i}", self.longest) for i, each in enumerate(value)]

    def bounds(self) -> JsonSchema:
        item = Text(self.each, "", most=self.longest).bounds()
        return array(item, minItems=1, maxItems=self.most)


@dataclass(frozen=True)
class Unread(Field):
    """A member that only another address reads; any value is accepted."""

    def check(self, value: object) -> None:
        """Accept any value."""

    def bounds(self) -> JsonSchema:
        return {}


#: Clients of the TorchServe example send one body to both addresses.
UNREAD_TARGET = Unread("target", "What /explanations explains. Answers do without it.")


def named(*fields: Field) -> dict[str, Field]:
    """Return fields by all their keys."""
    return {name: field for field in fields for name in field.names}


def read_values(fields: Mapping[str, Field], given: Mapping[str, object]) -> dict[str, Any]:
    """Return each field's value by its name; refuse wrong, missing and repeated ones."""
    return {field.name: _read(field, given) for field in fields.values()}


def read_item(fields: Mapping[str, Field], item: object) -> dict[str, Any]:
    """Return the values of an item: an object, or a text alone where there is a field `text`."""
    if not isinstance(item, dict) and TEXT.name in fields:
        item = {TEXT.name: item}
    needed = {field.name: field for field in fields.values() if field.required}
    form = "{" + ", ".join(f'"{name}": {field.form}' for name, field in needed.items()) + "}"
    if not isinstance(item, dict):
        raise RequestError(422, f"the input is {type_name(item)}; send {form}")
    item = without_unread(fields, item)
    check_keys(item, [name for name, field in fields.items() if not isinstance(field, Unread)])
    missing = [name for name, field in needed.items() if not item.keys() & set(field.names)]
    if missing:
        raise RequestError(422, f"the input has no {', '.join(missing)}; send {form}")
    return read_values(fields, item)


def without_unread(fields: Mapping[str, Field], given: Mapping[str, object]) -> dict[str, object]:
    """Leave out members that only another address reads."""
    return {key: value for key, value in given.items() if not isinstance(fields.get(key), Unread)}


def listed(choices: Sequence[str]) -> str:
    """Join choices for an error: only the first ones where they are many."""
    return ", ".join(choices[:LISTED]) + (", ..." if len(choices) > LISTED else "")


def _read(field: Field, given: Mapping[str, object]) -> Any:
    sent = [name for name in field.names if name in given]
    if len(sent) > 1:
        raise RequestError(422, f"{' and '.join(sent)} are the same; send one of them")
    if not sent and not field.required:
        return field.default
    # A missing value gets the error of null, which says what the value must be.
    return field.check(given[sent[0]] if sent else None)


def _check_text(value: object, called: str, most: int | None) -> str:
    text = check_text(value, called)
    if most is not None and len(text) > most:
        raise RequestError(422, f"{called} is over {most} characters; send a shorter one")
    return text
