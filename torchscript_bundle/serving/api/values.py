"""Checks of keys and texts in any request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torchscript_bundle.serving.errors import RequestError

#: JSON's names for Python's types, for errors.
JSON_TYPES = {
    "NoneType": "null",
    "bool": "a boolean",
    "int": "a number",
    "float": "a number",
    "str": "a string",
    "list": "a list",
    "dict": "an object",
}


def check_keys(value: dict[str, object], known: Iterable[str], where: str = "") -> None:
    """Refuse unknown keys; the error does not repeat them, as they may be very long."""
    names = tuple(known)
    if not value.keys() <= set(names):
        listed = ", ".join(f'"{where}{name}"' for name in names) or "none"
        raise RequestError(422, f"the object has a key that is not known; known are {listed}")


def without_nulls(value: dict[str, Any]) -> dict[str, Any]:
    """Leave out members that are null, which APIs of others take for members that are not sent."""
    return {name: each for name, each in value.items() if each is not None}


def check_text(value: object, what: str = "the text") -> str:
    """Return a text that is not blank and has no half surrogate pair; refuse others."""
    if not isinstance(value, str):
        raise RequestError(422, f"{what} is {type_name(value)}; send a string")
    if not value.strip():
        raise RequestError(422, f"{what} is empty; send at least one word")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise RequestError(
            422, f"{what} has half of a surrogate pair (\\ud800 to \\udfff); send whole characters"
        ) from None
    return value


def check_model(named: object, model_name: str) -> None:
    """Refuse the name of another model; without a `model_name` any will do."""
    if model_name and named != model_name:
        raise RequestError(404, f"this address serves {model_name}; send that as model")


def type_name(value: object) -> str:
    """Return JSON's name of a value's type."""
    return JSON_TYPES.get(type(value).__name__, "of another type")
