"""Fields that a client may send as long as it asks for nothing by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torchscript_bundle.serving.errors import RequestError

#: The name of a field -> values, beside null, that ask for nothing.
Neutral = Mapping[str, Sequence[object]]


def check_neutral(given: Mapping[str, object], neutral: Neutral, sentence: str) -> None:
    """Refuse a field that would change the answer.

    Args:
        given: what a client sent.
        neutral: the fields that must say nothing.
        sentence: what the client is told; `{name}` in it is the field's.

    Raises:
        RequestError: 422.
    """
    for name, values in neutral.items():
        value = given.get(name)
        if value is not None and not any(_same(value, each) for each in values):
            raise RequestError(422, sentence.format(name=name))


def _same(one: object, other: object) -> bool:
    """Return whether two values of JSON are the same; in Python, true is 1 and false is 0."""
    return type(one) is type(other) and one == other
