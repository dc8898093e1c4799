"""Checks on what any request holds: keys and texts."""

from __future__ import annotations

from collections.abc import Iterable

from torchscript_bundle.serving.errors import RequestError

#: JSON's names for Python's types, for messages to clients.
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
    """Refuses keys that would otherwise be ignored in silence.

    Raises:
        RequestError: 422 that lists the keys that are known. The unknown key is not repeated: it
            may be of any length.
    """
    names = tuple(known)
    if not value.keys() <= set(names):
        listed = ", ".join(f'"{where}{name}"' for name in names) or "none"
        raise RequestError(422, f"the object has a key that is not known; known are {listed}")


def check_text(value: object, what: str = "the text") -> str:
    """A text with something in it.

    Raises:
        RequestError: 422 for another type, white space alone, or half a character.
    """
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


def type_name(value: object) -> str:
    """What JSON calls the type of a value."""
    return JSON_TYPES.get(type(value).__name__, "of another type")
