"""What `read_call` takes and its replies, as JSON Schema.

Where JSON Schema cannot say a rule (a parameter given twice, a shape that is not that of its data)
the schema takes more than the service, never less.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from torchscript_bundle.serving.api.fields import TEXT, Field, Text
from torchscript_bundle.serving.api.json_schema import (
    COUNT,
    STRING,
    JsonSchema,
    array,
    either,
    record,
)
from torchscript_bundle.serving.api.protocols.call import PARAMETERS, Form, asides
from torchscript_bundle.serving.api.protocols.kserve import DATA, INSTANCES
from torchscript_bundle.serving.api.protocols.native import WRAPPERS
from torchscript_bundle.serving.api.protocols.open_inference import OUTPUT


def ref(name: str) -> JsonSchema:
    """A schema of the document, by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def prefixed(schemas: dict[str, JsonSchema], prefix: str) -> dict[str, JsonSchema]:
    """The same schemas by other names, so that two sets of them fit into one document."""
    text = json.dumps(schemas)
    for name in schemas:
        text = text.replace(json.dumps(ref(name)), json.dumps(ref(prefix + name)))
    return {prefix + name: schema for name, schema in json.loads(text).items()}


def takes_text(form: Form) -> bool:
    """Whether a text alone is a request."""
    needed = {key for key, field in form.item_keys.items() if field.required}
    return needed == {TEXT.name} and not _needed(form.parameters)


def takes_tensors(form: Form) -> bool:
    """Whether items can be sent as tensors of strings: all they need are texts."""
    return all(isinstance(field, Text) for field in form.item_keys.values() if field.required)


def request_schemas(form: Form, most: int) -> dict[str, JsonSchema]:
    """Schemas by name; `Request` is any JSON body, the others are what it refers to.

    Args:
        form: of the model's requests.
        most: most items in a request.
    """
    forms = ["NativeRequest", "KServeRequest"]
    schemas = {
        "Item": _item(form.item_keys),
        "Items": array(ref("Item"), minItems=1, maxItems=most),
        "Parameters": _object(_shown(form.parameters)),
        "NativeRequest": _native(form),
        "KServeRequest": _kserve(form, most),
    }
    if takes_tensors(form):
        forms.append("OpenInferenceRequest")
        schemas |= _open_inference(form, most)
    return {"Request": either(*map(ref, forms)), **schemas}


def reply_schemas(answer: JsonSchema, tensors_too: bool) -> dict[str, JsonSchema]:
    """Schemas by name; `Reply` is any JSON answer.

    Args:
        answer: the answer to one item.
        tensors_too: whether items can be sent as tensors.
    """
    answers = array(ref("Answer"), minItems=1)
    output = record({"name": {"const": OUTPUT}, "shape": array(COUNT), **_bytes(array(STRING))})
    tensors = {"model_name": STRING, "model_version": STRING, "outputs": array(output, minItems=1)}
    forms = {
        "NativeReply": either(ref("Answer"), answers),
        "KServeReply": record({"predictions": answers}),
        **({"OpenInferenceReply": record(tensors, {"id": STRING})} if tensors_too else {}),
    }
    return {"Answer": answer, "Reply": either(*map(ref, forms)), **forms}


def _item(keys: Mapping[str, Field]) -> JsonSchema:
    whole = {**_object(_shown(keys)), **_requires(keys)}
    return either(keys[TEXT.name].bounds(), whole) if TEXT.name in keys else whole


def _native(form: Form) -> JsonSchema:
    """An item or a list, bare or in an object beside parameters, of which some may be needed."""
    text = [form.item_keys[TEXT.name].bounds()] if TEXT.name in form.item_keys else []
    beside = {**_asides(form), **_shown(form.parameters), PARAMETERS: ref("Parameters")}
    given = [_beside_or_below(name) for name in _needed(form.parameters)]
    wrapped = {name: either(ref("Item"), ref("Items")) for name in WRAPPERS}
    if text:
        wrapped[TEXT.name] = ref("Items")
    forms = [
        {**_object({name: value, **beside}), "required": [name], **_all(given)}
        for name, value in wrapped.items()
    ]
    item = {**_object({**_shown(form.item_keys), **beside}), **_requires(form.item_keys, given)}
    return either(*([] if given else [*text, ref("Items")]), item, *forms)


def _asides(form: Form) -> dict[str, JsonSchema]:
    return _shown({key: form.item_keys[key] for key in sorted(asides(form))})


def _kserve(form: Form, most: int) -> JsonSchema:
    """Instances are items, or hold them under `data`."""
    wrapped = {**_object({DATA: ref("Item"), **_asides(form)}), "required": [DATA]}
    instances = array(either(ref("Item"), wrapped), minItems=1, maxItems=most)
    needed = _needed(form.parameters)
    parameters = {**ref("Parameters"), **({"required": needed} if needed else {})}
    return {
        **_object({INSTANCES: instances, PARAMETERS: parameters}),
        "required": [INSTANCES, *([PARAMETERS] if needed else [])],
    }


def _open_inference(form: Form, most: int) -> dict[str, JsonSchema]:
    """Tensors of strings; one alone is the text, by whatever name."""
    names = [key for key, field in form.item_keys.items() if isinstance(field, Text)]
    nested = array({"type": "array"}, minItems=1)
    data = either(array({"type": "string"}, minItems=1, maxItems=most), nested)
    tensor = {"name": STRING, "shape": array(COUNT), **_bytes(data)}
    alone = array(ref("Tensor"), minItems=1, maxItems=1)
    keyed = {"allOf": [ref("Tensor"), {"properties": {"name": {"enum": names}}}]}
    members = array(keyed, minItems=1, maxItems=len(names))
    inputs = either(alone, members) if TEXT.name in names else members
    request = record(
        {"inputs": inputs},
        {
            "id": Text("id", "").bounds(),
            "outputs": array(record({"name": {"const": OUTPUT}})),
            PARAMETERS: ref("Parameters"),
        },
    )
    needed = [
        {"anyOf": [_below(name), {"properties": {"inputs": {"contains": _below(name)}}}]}
        for name in _needed(form.parameters)
    ]
    return {
        "Tensor": record(tensor, {PARAMETERS: ref("Parameters")}),
        "OpenInferenceRequest": {**request, **_all(needed)},
    }


def _bytes(data: JsonSchema) -> dict[str, JsonSchema]:
    return {"datatype": {"const": "BYTES"}, "data": data}


def _object(members: dict[str, JsonSchema]) -> JsonSchema:
    return {"type": "object", "properties": members, "additionalProperties": False}


def _shown(fields: Mapping[str, Field]) -> dict[str, JsonSchema]:
    return {name: field.schema() for name, field in fields.items()}


def _needed(fields: Mapping[str, Field]) -> list[str]:
    return [name for name, field in fields.items() if field.required]


def _requires(fields: Mapping[str, Field], more: Sequence[JsonSchema] = ()) -> JsonSchema:
    """Which keys an object must have, of two names for one thing one, and what else must hold."""
    needed = {field.name: field.names for field in fields.values() if field.required}
    aliased = [
        {"oneOf": [{"required": [name]} for name in names]}
        for names in needed.values()
        if len(names) > 1
    ]
    plain = [name for name, names in needed.items() if len(names) == 1]
    return {"required": plain, **_all([*aliased, *more])}


def _all(conditions: Sequence[JsonSchema]) -> JsonSchema:
    return {"allOf": list(conditions)} if conditions else {}


def _beside_or_below(name: str) -> JsonSchema:
    return {"anyOf": [{"required": [name]}, _below(name)]}


def _below(name: str) -> JsonSchema:
    """An object whose parameters hold this one."""
    return {"required": [PARAMETERS], "properties": {PARAMETERS: {"required": [name]}}}
