"""An artifact -> its OpenAPI 3.1 document (https://spec.openapis.org/oas/v3.1.1.html)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from torchscript_bundle.serving.api.fields import TEXT
from torchscript_bundle.serving.api.http import JSON
from torchscript_bundle.serving.api.json_schema import (
    COUNT,
    STRING,
    JsonSchema,
    array,
    either,
    record,
)
from torchscript_bundle.serving.api.openai.messages import MESSAGES
from torchscript_bundle.serving.api.protocols import PROTOCOLS, schemas
from torchscript_bundle.serving.api.protocols.call import (
    PARAMETERS,
    VERSION,
    ProtocolSchemas,
    RequestFields,
    RequestProtocol,
)
from torchscript_bundle.serving.api.protocols.schemas import ref, required_keys
from torchscript_bundle.serving.artifact import TOKENIZER_FILE, Bundle, ServingOptions
from torchscript_bundle.serving.describe.other_addresses import (
    OTHER_ADDRESSES,
    describe_other_addresses,
)
from torchscript_bundle.serving.describe.parts import (
    FAILURES,
    OURS,
    THEIRS,
    Part,
    component,
    failure,
)
from torchscript_bundle.serving.errors import ArtifactError
from torchscript_bundle.serving.explanations.request import explanation_fields
from torchscript_bundle.serving.modes import load_mode, load_native_mode
from torchscript_bundle.serving.modes.base import ForwardMode, Mode

PLAIN = "text/plain"
#: Answers without a content type, as TorchServe's example had them.
UNTYPED = "*/*"
PAGE = "text/html"
STREAM = "text/event-stream"
FORM = "multipart/form-data"

#: Prefix of the schemas of requests that are answered as TorchServe's example answered.
EXAMPLE = "Example"
#: The native protocol, which is recognized last, is described first.
DOCUMENTED = (PROTOCOLS[-1], *PROTOCOLS[:-1])
#: OpenAPI operation id -> address; `{}` stands for the model's name.
ADDRESSES = {
    operation: path
    for each in PROTOCOLS
    for operation, path in {**each.predict_paths, **each.explain_paths}.items()
} | OTHER_ADDRESSES


def describe_folder(folder: Path, model_name: str) -> dict[str, Any]:
    """Make the OpenAPI document of an artifact that no worker has loaded."""
    bundle = Bundle.load(folder)
    try:
        mode = load_mode(bundle)
    except ArtifactError as error:
        raise ArtifactError(f"{folder}: {error}") from error
    native = load_native_mode(bundle, mode)
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    mode.set_tokenizer(tokenizer)
    native.set_tokenizer(tokenizer)
    return describe_api(
        bundle, mode, model_name, options=ServingOptions.load(folder), native=native
    )


def describe_api(
    bundle: Bundle,
    mode: Mode,
    model_name: str,
    options: ServingOptions,
    native: Mode | None = None,
) -> dict[str, Any]:
    """Make the OpenAPI document of a model; modes have their tokenizer, if they read one.

    `native` answers the native protocol, if that has another answer form than the others.
    """
    native = native or mode
    parts = [
        _predictions(mode, native, options),
        describe_other_addresses(mode, options.max_client_batch),
    ]
    if bundle.explanations and isinstance(mode, ForwardMode) and isinstance(native, ForwardMode):
        parts.append(_explanations(mode, native, options))
    errors = {
        OURS: record({"error": {**STRING, "description": "What to send instead."}}),
        THEIRS: record({"code": COUNT, "type": STRING, "message": STRING}),
    }
    api = {
        "openapi": "3.1.0",
        "info": {
            "title": "",
            "version": VERSION,
            "description": "Addresses of other APIs, after the model's version, take the requests "
            "of these; all others take every form of request.",
            "x-mode": bundle.mode,
            # TorchServe drops nulls from a description.
            "x-source": {key: value for key, value in bundle.source.items() if value is not None},
            "x-versions": bundle.versions,
        },
        "servers": [{"url": "http://127.0.0.1:8080", "description": "The inference address."}],
        "security": [{"key": []}],
        "paths": _joined(part.paths for part in parts),
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {**_joined(part.schemas for part in parts), **errors},
            "requestBodies": _joined(part.bodies for part in parts),
            "responses": {
                **_joined(part.answers for part in parts),
                **{f"Status{status}": failure(status) for status in FAILURES},
            },
        },
    }
    return with_name(api, model_name)


def with_name(api: dict[str, Any], model_name: str) -> dict[str, Any]:
    """Set the registered name of the model in a document, and its addresses."""
    paths = {
        ADDRESSES[operation["operationId"]].format(model_name): item
        for item in api["paths"].values()
        for operation in item.values()
    }
    return {**api, "info": {**api["info"], "title": model_name}, "paths": paths}


def _joined(members: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: value for each in members for name, value in each.items()}


@dataclass(frozen=True)
class _Form:
    """An answer form: its requests' fields, the schema of an item's answer, and its protocols."""

    fields: RequestFields
    answer: JsonSchema
    protocols: Sequence[RequestProtocol]


def _forms(
    own: tuple[RequestFields, JsonSchema], native: tuple[RequestFields, JsonSchema] | None
) -> dict[str, _Form]:
    """Return answer forms by the prefix of their schemas; `native` is None if there is one."""
    if native is None:
        return {"": _Form(*own, DOCUMENTED)}
    apart = [each for each in DOCUMENTED if each.has_answer_form]
    rest = [each for each in DOCUMENTED if not each.has_answer_form]
    return {EXAMPLE: _Form(*native, apart), "": _Form(*own, rest)}


def _predictions(mode: Mode, native: Mode, options: ServingOptions) -> Part:
    operations = [operation for each in DOCUMENTED for operation in each.predict_paths]
    pairs = [(each, each.answer_schema) for each in (mode, native)]
    forms = _forms(pairs[0], None if native is mode else pairs[1])
    part = _part("", operations, forms, PLAIN, options)
    if native.event_schema is not None:
        _add_stream(part, mode, native.event_schema)
    return part


def _add_stream(part: Part, mode: Mode, event_schema: JsonSchema) -> None:
    part.schemas["Event"] = event_schema
    part.answers["Answer"]["content"][STREAM] = {
        "schema": {**STRING, "description": "Where stream is true; the data of each is an Event."},
        "x-event": ref("Event"),
    }
    if mode.message_schema is not None:
        part.schemas["Request"] = either(*part.schemas["Request"]["anyOf"], ref("ChatRequest"))
        beside = {**schemas.members(mode.parameters), PARAMETERS: ref("Parameters")}
        request = record({MESSAGES: mode.message_schema}, beside)
        part.schemas.update(_prefixed({"ChatRequest": request}, ""))


def _explanations(mode: ForwardMode, native: ForwardMode, options: ServingOptions) -> Part:
    operations = [operation for each in DOCUMENTED for operation in each.explain_paths]
    pairs = [
        (explanation_fields(each, options.explanation_steps), each.explained_schema)
        for each in (mode, native)
    ]
    forms = _forms(pairs[0], None if native is mode else pairs[1])
    return _part("Explained", operations, forms, PAGE, options)


def _part(
    prefix: str,
    operations: Iterable[str],
    forms: Mapping[str, _Form],
    other_type: str,
    options: ServingOptions,
) -> Part:
    """Make the part for predictions or explanations.

    `prefix` begins the names of its components; `other_type` is the media type of answers that are
    not JSON.
    """
    most = options.max_client_batch
    components: dict[str, JsonSchema] = {}
    described: dict[str, ProtocolSchemas] = {}
    for name, form in forms.items():
        asked = [one for one in form.protocols if one.anywhere]
        each = [schema for one in asked if (schema := one.describe(form.fields, most))]
        components |= _prefixed(_components(form, each, most), name)
        described |= {f"{name}{schema.name}": schema for schema in each}
    components["Request"] = either(*(ref(f"{name}Request") for name in described))
    as_json = [name for name in described if not name.startswith(EXAMPLE)]
    components["Reply"] = either(*(ref(f"{name}Reply") for name in as_json))
    examples = _joined(each.examples for each in described.values())
    texts = next(iter(forms.values())).fields
    return Part(
        {ADDRESSES[each]: {"post": _operation(each, prefix)} for each in operations},
        _prefixed(components, prefix),
        {f"{prefix}Request": _request_body(texts, examples, prefix)},
        {f"{prefix}Answer": _answer(prefix, other_type, untyped=EXAMPLE in forms)},
    )


def _components(
    form: _Form, protocols: Sequence[ProtocolSchemas], most: int
) -> dict[str, JsonSchema]:
    """Return the schemas of an answer form's protocols, and what they refer to."""
    components = {
        "Item": schemas.item(form.fields),
        "Items": array(ref("Item"), minItems=1, maxItems=most),
        "Parameters": schemas.optional(schemas.members(form.fields.parameters)),
        "Answer": form.answer,
    }
    for each in protocols:
        components |= {
            **each.parts,
            f"{each.name}Request": each.request,
            f"{each.name}Reply": each.reply,
        }
    return components


def _prefixed(components: dict[str, JsonSchema], prefix: str) -> dict[str, JsonSchema]:
    """Rename schemas, so that two sets of them fit into one document."""
    text = json.dumps(components)
    for name in components:
        text = text.replace(json.dumps(ref(name)), json.dumps(ref(prefix + name)))
    return {prefix + name: schema for name, schema in json.loads(text).items()}


def _operation(name: str, prefix: str) -> dict[str, Any]:
    failures = {str(each): component("responses", f"Status{each}") for each in FAILURES}
    return {
        "operationId": name,
        "requestBody": component("requestBodies", f"{prefix}Request"),
        "responses": {"200": component("responses", f"{prefix}Answer"), **failures},
    }


def _request_body(
    fields: RequestFields, examples: Mapping[str, object], prefix: str
) -> dict[str, Any]:
    shown = {name: {"value": value} for name, value in examples.items()}
    content: dict[str, Any] = {JSON: {"schema": ref(f"{prefix}Request"), "examples": shown}}
    if required_keys(fields.item_keys) == [TEXT.name] and not required_keys(fields.parameters):
        # A text alone is a request.
        text = fields.item_keys[TEXT.name]
        content[PLAIN] = {"schema": text.bounds(), "example": text.example}
        content[FORM] = {"schema": {**record({"data": text.bounds()}), "additionalProperties": {}}}
    return {"required": True, "content": content}


def _answer(prefix: str, other: str, *, untyped: bool) -> dict[str, Any]:
    content = {JSON: {"schema": ref(f"{prefix}Reply")}, other: {"schema": STRING}}
    description = "The answer, in the form of the request."
    if untyped:
        content[UNTYPED] = {"schema": ref(f"{prefix}{EXAMPLE}NativeReply")}
        description += (
            " To a text, an item or a list of them it is that of TorchServe's Hugging Face example:"
            " without a content type, a string as it is and all else as JSON."
        )
    return {"description": description, "content": content}
