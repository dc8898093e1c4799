"""The values that requests hold: name, bounds, check and JSON Schema of each, said once.

A mode declares its fields; it reads requests with them, and the OpenAPI document is made of them.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from torchscript_bundle.serving.api.json_schema import JsonSchema, array, words
from torchscript_bundle.serving.api.values import check_keys, check_text, type_name
from torchscript_bundle.serving.errors import RequestError

#: What `str.strip` leaves something of; `\s` is another set in each dialect of patterns.
SPACE = r"\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
NOT_BLANK = f"[^{SPACE}]"

#: Most choices that a message lists.
LISTED = 20


@dataclass(frozen=True)
class Field(ABC):
    """A member of an item, or a parameter.

    Attributes:
        name: its key.
        description: what it is, for people.
        required: whether every request has it.
        default: its value where a request leaves it out.
        aliases: keys that do as well.
        example: a value that shows what is meant.
    """

    name: str
    description: str
    _: KW_ONLY
    required: bool = False
    default: Any = None
    aliases: tuple[str, ...] = ()
    example: Any = "It works as described."

    #: How a value looks in a message.
    form = '"..."'

    @property
    def names(self) -> tuple[str, ...]:
        """All keys that it goes by."""
        return (self.name, *self.aliases)

    @abstractmethod
    def check(self, value: object) -> Any:
        """The value, if it is right.

        Raises:
            RequestError: a sentence that says what to send.
        """

    @abstractmethod
    def bounds(self) -> JsonSchema:
        """What JSON Schema can say of the values that `check` takes."""

    def schema(self) -> JsonSchema:
        """The field as OpenAPI shows it."""
        default = {} if self.default is None else {"default": self.default}
        return {"description": self.description, **self.bounds(), **default}


@dataclass(frozen=True)
class Text(Field):
    """A text with something in it.

    Attributes:
        most: most characters, where there is a limit.
        pattern: a regular expression that it holds, the same in Python and JSON Schema.
        must: what the pattern asks for, for the message.
        called: what messages call it, if not by its name.
    """

    _: KW_ONLY
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


@dataclass(frozen=True)
class Whole(Field):
    """A whole number.

    Attributes:
        least: the lowest.
        most: the highest, where there is one.
        null: what null stands for, where it may be sent: the number of all that there are.
    """

    _: KW_ONLY
    least: int
    most: int | None = None
    null: int | None = None

    def check(self, value: object) -> int:
        if value is None and self.null is not None:
            return self.null
        if isinstance(value, bool) or not isinstance(value, int) or not self._holds(value):
            between = f"from {self.least} to {self.most}"
            bounds = f"of at least {self.least}" if self.most is None else between
            null = "" if self.null is None else ", or null for all"
            raise RequestError(422, f"{self.name} must be a whole number {bounds}{null}")
        return value

    def _holds(self, value: int) -> bool:
        return self.least <= value and (self.most is None or value <= self.most)

    def bounds(self) -> JsonSchema:
        kind = "integer" if self.null is None else ["integer", "null"]
        most = {} if self.most is None else {"maximum": self.most}
        return {"type": kind, "minimum": self.least, **most}


@dataclass(frozen=True)
class Number(Field):
    """A number, whole or not.

    Attributes:
        least: the lowest.
        most: the highest.
        open: whether `least` itself is too low.
    """

    _: KW_ONLY
    least: float
    most: float
    open: bool = False

    def check(self, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not self._holds(value):
            least = f"above {self.least:g}" if self.open else f"of at least {self.least:g}"
            raise RequestError(
                422, f"{self.name} must be a number {least} and at most {self.most:g}"
            )
        return float(value)

    def _holds(self, value: float) -> bool:
        return self.least <= value <= self.most and not (self.open and value == self.least)

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


@dataclass(frozen=True)
class Choice(Field):
    """One of some words; of none, where a model lacks what others have."""

    _: KW_ONLY
    choices: Sequence[str]

    def check(self, value: object) -> str:
        if not self.choices:
            raise RequestError(422, f"this model has no {self.name}; leave it out")
        if not isinstance(value, str) or value not in self.choices:
            raise RequestError(422, f"{self.name} must be one of {listed(self.choices)}")
        return value

    def bounds(self) -> JsonSchema:
        return words(self.choices) if self.choices else {"not": {}}


@dataclass(frozen=True)
class Choices(Field):
    """A list of some words."""

    _: KW_ONLY
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


@dataclass(frozen=True)
class Texts(Field):
    """A list of texts.

    Attributes:
        each: what messages call one of them.
        most: most texts.
        longest: most characters of one, where there is a limit.
        too_many: status of a longer list.
        otherwise: what else may be sent, for the message.
    """

    _: KW_ONLY
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
        return [
            _check_text(text, f"{self.each} {at}", self.longest) for at, text in enumerate(value)
        ]

    def bounds(self) -> JsonSchema:
        item = Text(self.each, "", most=self.longest).bounds()
        return array(item, minItems=1, maxItems=self.most)


@dataclass(frozen=True)
class Unread(Field):
    """A member that an item may hold because another address reads it; any value will do."""

    def check(self, value: object) -> None:
        """Nothing is read, so nothing can be wrong."""

    def bounds(self) -> JsonSchema:
        return {}


#: Clients of the TorchServe example send one body to both addresses.
UNREAD_TARGET = Unread("target", "What /explanations explains. Answers do without it.")


def named(*fields: Field) -> dict[str, Field]:
    """Fields by their keys."""
    return {name: field for field in fields for name in field.names}


def read_values(fields: Mapping[str, Field], given: Mapping[str, object]) -> dict[str, Any]:
    """The value of each field, by its name.

    Args:
        fields: by their keys.
        given: what the request has; its keys are known.

    Raises:
        RequestError: a value is wrong, missing, or sent under two keys.
    """
    return {field.name: _read(field, given) for field in fields.values()}


def read_item(fields: Mapping[str, Field], item: object) -> dict[str, Any]:
    """The same of an item: an object, or a text alone where it has a `text`.

    Raises:
        RequestError: also for another type, an unknown key, or one that is missing.
    """
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
    """Return what is given without members that are not read here."""
    return {key: value for key, value in given.items() if not isinstance(fields.get(key), Unread)}


def listed(choices: Sequence[str]) -> str:
    """Words in a message, the first of many."""
    return ", ".join(choices[:LISTED]) + (", ..." if len(choices) > LISTED else "")


def _read(field: Field, given: Mapping[str, object]) -> Any:
    sent = [name for name in field.names if name in given]
    if len(sent) > 1:
        raise RequestError(422, f"{' and '.join(sent)} are the same; send one of them")
    if not sent and not field.required:
        return field.default
    # What is missing is told as null would be: by what the value must be.
    return field.check(given[sent[0]] if sent else None)


def _check_text(value: object, called: str, most: int | None) -> str:
    text = check_text(value, called)
    if most is not None and len(text) > most:
        raise RequestError(422, f"{called} is over {most} characters; send a shorter one")
    return text
