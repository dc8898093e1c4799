"""The building blocks of JSON Schemas (draft 2020-12, as in OpenAPI 3.1)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

JsonSchema = dict[str, Any]

STRING: JsonSchema = {"type": "string"}
NUMBER: JsonSchema = {"type": "number"}
COUNT: JsonSchema = {"type": "integer", "minimum": 0}
#: Of members that are sent only where they are true, such as `truncated`.
TRUE: JsonSchema = {"const": True}

#: Longer enums are left out: a model may have a label for each of a hundred thousand products.
MOST_WORDS = 100


def words(known: Iterable[str]) -> JsonSchema:
    """Return the schema of one of some strings, or of any string where they are too many."""
    distinct = list(dict.fromkeys(known))
    return {"type": "string", "enum": distinct} if len(distinct) <= MOST_WORDS else STRING


def either(*schemas: JsonSchema) -> JsonSchema:
    """Return the schema of anything that one of these accepts."""
    return {"anyOf": list(schemas)}


def array(items: JsonSchema, **bounds: int) -> JsonSchema:
    """Return the schema of a list."""
    return {"type": "array", "items": items, **bounds}


def record(members: JsonSchema, optional: JsonSchema | None = None) -> JsonSchema:
    """Return the schema of an object with these members, perhaps the optional ones, no others."""
    return {
        "type": "object",
        "properties": {**members, **(optional or {})},
        "required": list(members),
        "additionalProperties": False,
    }
