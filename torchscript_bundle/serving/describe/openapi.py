"""An artifact -> its OpenAPI 3.1 document (https://spec.openapis.org/oas/v3.1.1.html)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
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
from torchscript_bundle.serving.api.protocols.call import PARAMETERS, VERSION, RequestFields
from torchscript_bundle.serving.api.protocols.schemas import ref, required_keys
from torchscript_bundle.serving.artifact import TOKENIZER_FILE, Bundle, ServingOptions
from torchscript_bundle.serving.errors import ArtifactError
from torchscript_bundle.serving.explanations.request import EXPLANATION, explanation_fields
from torchscript_bundle.serving.modes import load_mode
from torchscript_bundle.serving.modes.base import Mode

PLAIN = "text/plain"
PAGE = "text/html"
STREAM = "text/event-stream"
FORM = "multipart/form-data"

#: The schemas of our own errors, and of those of TorchServe around us.
OURS, THEIRS = "Error", "TorchServeError"

#: Status -> its meaning, and the schemas of its errors.
FAILURES: dict[int, tuple[str, tuple[str, ...]]] = {
    400: ("No body, not UTF-8, not JSON; or no key, a wrong or an expired one.", (OURS, THEIRS)),
    404: ("No such model.", (OURS, THEIRS)),
    413: ("Too many texts, or too long; without a body where it is TorchServe's.", (OURS,)),
    415: ("A content type, or a charset, that is not served.", (OURS,)),
    422: ("A value that is not what the schema or the model takes.", (OURS,)),
    500: ("A bad form, the server's fault, or a worker that died with this.", (OURS, THEIRS)),
    503: ("The queue is full, or no worker is ready; or explaining took long.", (OURS, THEIRS)),
    507: ("The worker was killed with this request.", (THEIRS,)),
}


#: The native protocol, which is recognized last, is described first.
DOCUMENTED = (PROTOCOLS[-1], *PROTOCOLS[:-1])
#: OpenAPI operation id -> address; `{}` stands for the model's name.
ADDRESSES = {
    operation: path
    for each in PROTOCOLS
    for operation, path in {**each.predict_paths, **each.explain_paths}.items()
}


def describe_folder(folder: Path, model_name: str) -> dict[str, Any]:
    """Make the OpenAPI document of an artifact that no worker has loaded."""
    bundle = Bundle.load(folder)
    try:
        mode = load_mode(bundle)
    except ArtifactError as error:
        raise ArtifactError(f"{folder}: {error}") from error
    mode.set_tokenizer(Tokenizer.from_file(str(folder / TOKENIZER_FILE)))
    return describe_api(bundle, mode, model_name, ServingOptions.load(folder))


def describe_api(
    bundle: Bundle, mode: Mode, model_name: str, options: ServingOptions
) -> dict[str, Any]:
    """Make the OpenAPI document of a model; the mode has its tokenizer, if it reads one."""
    parts = [_predictions(mode, options)]
    if bundle.explanations and mode.target_parameters:
        parts.append(_explanations(mode, options))
    errors = {
        OURS: record({"error": {**STRING, "description": "What to send instead."}}),
        THEIRS: record({"code": COUNT, "type": STRING, "message": STRING}),
    }
    api = {
        "openapi": "3.1.0",
        "info": {
            "title": "",
            "version": VERSION,
            "description": "Every address takes every form of request.",
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
                **{f"Status{status}": _failure(status) for status in FAILURES},
            },
        },
    }
    return with_name(api, model_name)


def with_name(api: dict[str, Any], model_name: str) -> dict[str, Any]:
    """Set the registered name of the model in a document, and its addresses."""
    paths = {
        ADDRESSES[item["post"]["operationId"]].format(model_name): item
        for item in api["paths"].values()
    }
    return {**api, "info": {**api["info"], "title": model_name}, "paths": paths}


@dataclass(frozen=True)
class _Part:
    """Addresses with the same requests and answers, and the components that they refer to."""

    paths: dict[str, Any]
    schemas: dict[str, Any]
    bodies: dict[str, Any]
    answers: dict[str, Any]


def _joined(members: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: value for each in members for name, value in each.items()}


def _predictions(mode: Mode, options: ServingOptions) -> _Part:
    operations = [operation for each in DOCUMENTED for operation in each.predict_paths]
    part = _part("", operations, mode, mode.answer_schema, PLAIN, options)
    if mode.event_schema is not None:
        _add_stream(part, mode, mode.event_schema)
    return part


def _add_stream(part: _Part, mode: Mode, event_schema: JsonSchema) -> None:
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


def _explanations(mode: Mode, options: ServingOptions) -> _Part:
    operations = [operation for each in DOCUMENTED for operation in each.explain_paths]
    fields = explanation_fields(mode, options.explanation_steps)
    answer = record({"answer": mode.answer_schema, "explanations": array(EXPLANATION, minItems=1)})
    return _part("Explained", operations, fields, answer, PAGE, options)


def _part(
    prefix: str,
    operations: Iterable[str],
    fields: RequestFields,
    answer: JsonSchema,
    other_type: str,
    options: ServingOptions,
) -> _Part:
    """Make the part for predictions or explanations.

    `prefix` begins the names of its components; `answer` is the schema of one item's answer, and
    `other_type` the media type of answers that are not JSON.
    """
    most = options.max_client_batch
    described = [each.describe(fields, most) for each in DOCUMENTED]
    protocols = [each for each in described if each is not None]
    components = {
        "Request": either(*(ref(f"{each.name}Request") for each in protocols)),
        "Item": schemas.item(fields),
        "Items": array(ref("Item"), minItems=1, maxItems=most),
        "Parameters": schemas.optional(schemas.members(fields.parameters)),
    }
    for each in protocols:
        components |= {**each.parts, f"{each.name}Request": each.request}
    replies = {f"{each.name}Reply": each.reply for each in protocols}
    components |= {"Answer": answer, "Reply": either(*map(ref, replies)), **replies}
    examples = _joined(each.examples for each in protocols)
    return _Part(
        {ADDRESSES[each]: {"post": _operation(each, prefix)} for each in operations},
        _prefixed(components, prefix),
        {f"{prefix}Request": _request_body(fields, examples, prefix)},
        {f"{prefix}Answer": _answer(prefix, other_type)},
    )


def _prefixed(components: dict[str, JsonSchema], prefix: str) -> dict[str, JsonSchema]:
    """Rename schemas, so that two sets of them fit into one document."""
    text = json.dumps(components)
    for name in components:
        text = text.replace(json.dumps(ref(name)), json.dumps(ref(prefix + name)))
    return {prefix + name: schema for name, schema in json.loads(text).items()}


def _operation(name: str, prefix: str) -> dict[str, Any]:
    failures = {str(each): _component("responses", f"Status{each}") for each in FAILURES}
    return {
        "operationId": name,
        "requestBody": _component("requestBodies", f"{prefix}Request"),
        "responses": {"200": _component("responses", f"{prefix}Answer"), **failures},
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


def _answer(prefix: str, other: str) -> dict[str, Any]:
    content = {JSON: {"schema": ref(f"{prefix}Reply")}, other: {"schema": STRING}}
    return {"description": "The answer, in the form of the request.", "content": content}


def _failure(status: int) -> dict[str, Any]:
    description, names = FAILURES[status]
    schema = ref(names[0]) if len(names) == 1 else either(*map(ref, names))
    return {"description": description, "content": {JSON: {"schema": schema}}}


def _component(kind: str, name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/{kind}/{name}"}
