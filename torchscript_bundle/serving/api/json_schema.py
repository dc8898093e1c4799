"""JSON Schemas (draft 2020-12, that of OpenAPI 3.1) of what answers are made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

JsonSchema = dict[str, Any]

STRING: JsonSchema = {"type": "string"}
NUMBER: JsonSchema = {"type": "number"}
COUNT: JsonSchema = {"type": "integer", "minimum": 0}
#: Sent only where it is true, as `truncated` is.
TRUE: JsonSchema = {"const": True}

#: More are not listed: a model may have a label for each of its hundred thousand products.
MOST_WORDS = 100


def words(known: Iterable[str]) -> JsonSchema:
    """One of some words; any word, where they are too many to list."""
    distinct = list(dict.fromkeys(known))
    return {"type": "string", "enum": distinct} if len(distinct) <= MOST_WORDS else STRING


def either(*schemas: JsonSchema) -> JsonSchema:
    """One of these."""
    return {"anyOf": list(schemas)}


def array(items: JsonSchema, **bounds: int) -> JsonSchema:
    """A list of such items."""
    return {"type": "array", "items": items, **bounds}


def record(members: JsonSchema, optional: JsonSchema | None = None) -> JsonSchema:
    """An object of these members and no others.

    Args:
        members: the schema of each by its name.
        optional: those that may be absent.
    """
    return {
        "type": "object",
        "properties": {**members, **(optional or {})},
        "required": list(members),
        "additionalProperties": False,
    }
