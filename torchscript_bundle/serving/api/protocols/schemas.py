"""Fields of a request as JSON Schema, for the protocols' parts of the OpenAPI document.

Where JSON Schema cannot express a rule (a parameter given twice, a shape that does not fit its
data) the schema accepts more than the service, never less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torchscript_bundle.serving.api.fields import TEXT, Field
from torchscript_bundle.serving.api.json_schema import JsonSchema, either
from torchscript_bundle.serving.api.protocols.call import PARAMETERS, RequestFields, target_keys

Fields = Mapping[str, Field]


def ref(name: str) -> JsonSchema:
    """Return a reference to one of the document's schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def optional(members: dict[str, JsonSchema]) -> JsonSchema:
    """Return the schema of an object with any of these members and no others."""
    return {"type": "object", "properties": members, "additionalProperties": False}


def all_of(conditions: Sequence[JsonSchema]) -> JsonSchema:
    """Return the part of a schema that adds conditions."""
    return {"allOf": list(conditions)} if conditions else {}


def members(fields: Fields) -> dict[str, JsonSchema]:
    """Return the schema of each field by its key."""
    return {key: field.schema() for key, field in fields.items()}


def nullable(members: Mapping[str, JsonSchema]) -> dict[str, JsonSchema]:
    """Return the members of an object for each of which null may be sent as well."""
    return {name: either(schema, {"type": "null"}) for name, schema in members.items()}


def beside_text(fields: RequestFields) -> dict[str, JsonSchema]:
    """Return the members of an item that may stand beside its text."""
    return members({key: fields.item_keys[key] for key in sorted(target_keys(fields))})


def required_keys(fields: Fields) -> list[str]:
    """Return the keys of required fields."""
    return [key for key, field in fields.items() if field.required]


def item(fields: RequestFields) -> JsonSchema:
    """Return the schema of one item: an object, or a text alone where there is a field `text`."""
    keys = fields.item_keys
    whole = {**optional(members(keys)), **requires(keys)}
    return either(keys[TEXT.name].bounds(), whole) if TEXT.name in keys else whole


def requires(fields: Fields, more: Sequence[JsonSchema] = ()) -> JsonSchema:
    """Return the required keys of an object, exactly one for each field, and `more` conditions."""
    required = {field.name: field.names for field in fields.values() if field.required}
    aliased = [
        {"oneOf": [{"required": [key]} for key in keys]}
        for keys in required.values()
        if len(keys) > 1
    ]
    plain = [name for name, keys in required.items() if len(keys) == 1]
    return {"required": plain, **all_of([*aliased, *more])}


def in_parameters(name: str) -> JsonSchema:
    """Return the condition that an object's `parameters` hold this one."""
    return {"required": [PARAMETERS], "properties": {PARAMETERS: {"required": [name]}}}


def examples(fields: Fields) -> dict[str, Any]:
    """Return an example of each required field, by its name."""
    return {field.name: field.example for field in fields.values() if field.required}


def example_parameters(fields: RequestFields) -> dict[str, Any]:
    """Return the `parameters` member of an example, with the required ones."""
    required = examples(fields.parameters)
    return {PARAMETERS: required} if required else {}
