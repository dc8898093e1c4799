"""Checks on what a request holds that every mode needs: keys and texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torchscript_bundle.serving.errors import RequestError

#: JSON's names for Python's types, for messages to clients.
JSON_TYPES = {
    "NoneType": "null",
    "bool": "a boolean",
    "int": "a number",
    "float": "a number",
    "list": "a list",
    "dict": "an object",
}


def take_texts(value: object, max_texts: int) -> Sequence[str]:
    """A text or a list of texts as a sequence of texts.

    Raises:
        RequestError: 422 for another type or an empty text, 413 for more than `max_texts`.
    """
    if isinstance(value, str):
        return [_check_text(value, "the text")]
    if not isinstance(value, list):
        raise RequestError(
            422, f"the text is {_type_name(value)}; send a string or a list of strings"
        )
    if not value:
        raise RequestError(422, "the list of texts is empty; send at least one text")
    if len(value) > max_texts:
        raise RequestError(
            413, f"{len(value)} texts in one request; send at most {max_texts} at a time"
        )
    return [_check_text(text, f"text {at} of the list") for at, text in enumerate(value)]


def check_keys(value: dict[str, object], known: Iterable[str], where: str = "") -> None:
    """Refuses keys that would otherwise be ignored in silence.

    Raises:
        RequestError: 422 that lists the keys that are known. The unknown key is not repeated: it
            may be of any length.
    """
    names = tuple(known)
    if not value.keys() <= set(names):
        listed = ", ".join(f'"{where}{name}"' for name in names)
        raise RequestError(422, f"the object has a key that is not known; known are {listed}")


def _check_text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise RequestError(422, f"{what} is {_type_name(value)}; send strings")
    if not value.strip():
        raise RequestError(422, f"{what} is empty; send at least one word")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise RequestError(
            422, f"{what} has half of a surrogate pair (\\ud800 to \\udfff); send whole characters"
        ) from None
    return value


def _type_name(value: object) -> str:
    return JSON_TYPES.get(type(value).__name__, "of another type")
