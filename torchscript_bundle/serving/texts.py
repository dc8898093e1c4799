"""Checks on what a request holds that every mode needs: keys, texts, parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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


def check_item(item: object, keys: Sequence[str], required: Sequence[str]) -> dict[str, object]:
    """An item that is an object.

    Raises:
        RequestError: 422 for another type, an unknown key, or one that is missing.
    """
    form = "{" + ", ".join(f'"{key}": "..."' for key in required) + "}"
    if not isinstance(item, dict):
        raise RequestError(422, f"the input is {type_name(item)}; send {form}")
    check_keys(item, keys)
    missing = [key for key in required if key not in item]
    if missing:
        raise RequestError(422, f"the input has no {', '.join(missing)}; send {form}")
    return item


def check_whole(value: object, name: str, least: int, most: int) -> int:
    """A whole number within bounds.

    Raises:
        RequestError: 422.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise RequestError(422, f"{name} must be a whole number from {least} to {most}")
    return value


def check_boolean(value: object, name: str) -> bool:
    """True or false.

    Raises:
        RequestError: 422.
    """
    if not isinstance(value, bool):
        raise RequestError(422, f"{name} must be true or false")
    return value


def check_choice(value: object, name: str, choices: Sequence[str]) -> str:
    """One of some words.

    Raises:
        RequestError: 422 that lists them.
    """
    if not isinstance(value, str) or value not in choices:
        raise RequestError(422, f"{name} must be one of {', '.join(choices)}")
    return value


def check_label(value: object, labels: Sequence[str]) -> str:
    """The label whose score is to be explained.

    Raises:
        RequestError: 422 that lists the labels, or some of them.
    """
    if not isinstance(value, str) or value not in labels:
        listed = ", ".join(labels[:20]) + (", ..." if len(labels) > 20 else "")
        raise RequestError(422, f"target must be a label of this model: {listed}")
    return value


def type_name(value: object) -> str:
    """What JSON calls the type of a value."""
    return JSON_TYPES.get(type(value).__name__, "of another type")
