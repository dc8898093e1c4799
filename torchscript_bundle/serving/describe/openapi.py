"""An artifact -> its OpenAPI 3.1 document: what may be sent to it, and what it answers.

Source: https://spec.openapis.org/oas/v3.1.1.html
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
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
from torchscript_bundle.serving.api.protocols.call import PARAMETERS, Form
from torchscript_bundle.serving.api.protocols.kserve import INSTANCES
from torchscript_bundle.serving.api.protocols.open_inference import VERSION
from torchscript_bundle.serving.artifact import TOKENIZER_FILE, Bundle, ServingOptions
from torchscript_bundle.serving.describe.request_schemas import (
    prefixed,
    ref,
    reply_schemas,
    request_schemas,
    takes_tensors,
    takes_text,
)
from torchscript_bundle.serving.engine.precisions import Running
from torchscript_bundle.serving.errors import ArtifactError
from torchscript_bundle.serving.explanations.request import EXPLANATION, explained_form
from torchscript_bundle.serving.modes import load_mode
from torchscript_bundle.serving.modes.base import Mode

PLAIN = "text/plain"
PAGE = "text/html"
STREAM = "text/event-stream"
FORM = "multipart/form-data"

#: Our own errors, and those of TorchServe around us.
OURS, THEIRS = "Error", "TorchServeError"

#: status -> what it means, and whose errors it has.
FAILURES: dict[int, tuple[str, tuple[str, ...]]] = {
    400: ("No body, not UTF-8, not JSON; or no key, a wrong or an expired one.", (OURS, THEIRS)),
    404: ("No such model.", (OURS, THEIRS)),
    413: ("Too many texts, or too long; without a body where it is TorchServe's.", (OURS,)),
    415: ("A content type, or a charset, that is not served.", (OURS,)),
    422: ("A value that is not what the schema or the model takes.", (OURS,)),
    500: (
        "A bad form, the server's fault, or a worker that died with this.",
        (OURS, THEIRS),
    ),
    503: ("The queue is full, or no worker is ready; or explaining took long.", (OURS, THEIRS)),
    507: ("The worker was killed with this request.", (THEIRS,)),
}


def describe_folder(folder: Path, model_name: str) -> dict[str, Any]:
    """The document of an artifact that no worker has loaded.

    Args:
        folder: the artifact's.
        model_name: as it will be served.

    Raises:
        ArtifactError: the artifact cannot be served.
    """
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
    """The document of a model.

    Args:
        bundle: the artifact's facts.
        mode: made from them; it has its tokenizer, if it reads one.
        model_name: what the model is called in URLs.
        options: bounds on requests.
    """
    parts = [_predictions(mode, model_name, options)]
    if bundle.explanations and mode.target_parameters:
        parts.append(_explanations(mode, model_name, options))
    errors = {
        OURS: record({"error": {**STRING, "description": "What to send instead."}}),
        THEIRS: record({"code": COUNT, "type": STRING, "message": STRING}),
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": model_name,
            "version": VERSION,
            "description": "Every address takes every form of request.",
            "x-mode": bundle.mode,
            # TorchServe drops what is null from a description.
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


@dataclass(frozen=True)
class _Part:
    """Addresses that take and give the same, with the components that they refer to."""

    paths: dict[str, Any]
    schemas: dict[str, Any]
    bodies: dict[str, Any]
    answers: dict[str, Any]


def _joined(members: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {name: value for each in members for name, value in each.items()}


def _predictions(mode: Mode, model_name: str, options: ServingOptions) -> _Part:
    addresses = {
        "predict": f"/predictions/{model_name}",
        "predict_version": f"/predictions/{model_name}/{VERSION}",
        "kserve_predict": f"/v1/models/{model_name}:predict",
        "kserve_infer": f"/v2/models/{model_name}/infer",
    }
    schemas = {
        **request_schemas(mode, options.max_client_batch),
        **reply_schemas(mode.answer_schema, takes_tensors(mode)),
    }
    part = _part("", addresses, mode, schemas, PLAIN)
    if mode.event_schema is not None:
        _add_stream(part, mode, mode.event_schema)
    return part


def _add_stream(part: _Part, mode: Mode, event_schema: JsonSchema) -> None:
    """Adds events to the answers and, where the model takes them, messages to the requests."""
    part.schemas["Event"] = event_schema
    part.answers["Answer"]["content"][STREAM] = {
        "schema": {**STRING, "description": "Where stream is true; the data of each is an Event."},
        "x-event": ref("Event"),
    }
    if mode.message_schema is not None:
        part.schemas["Request"] = either(*part.schemas["Request"]["anyOf"], ref("ChatRequest"))
        beside = {name: field.schema() for name, field in mode.parameters.items()}
        request = record({MESSAGES: mode.message_schema}, {**beside, PARAMETERS: ref("Parameters")})
        part.schemas.update(prefixed({"ChatRequest": request}, ""))


def _explanations(mode: Mode, model_name: str, options: ServingOptions) -> _Part:
    addresses = {
        "explain": f"/explanations/{model_name}",
        "kserve_explain": f"/v1/models/{model_name}:explain",
    }
    form = explained_form(mode, options.explanation_steps)
    answer = record({"answer": mode.answer_schema, "explanations": array(EXPLANATION, minItems=1)})
    schemas = {
        **request_schemas(form, options.max_client_batch),
        **reply_schemas(answer, takes_tensors(form)),
    }
    return _part("Explained", addresses, form, schemas, PAGE)


def _part(
    prefix: str, addresses: dict[str, str], form: Form, schemas: dict[str, JsonSchema], other: str
) -> _Part:
    """Args: see `_Part`; `other` is the media type of answers that are not JSON."""
    return _Part(
        {path: {"post": _operation(name, prefix)} for name, path in addresses.items()},
        prefixed(schemas, prefix),
        {f"{prefix}Request": _request_body(form, prefix)},
        {f"{prefix}Answer": _answer(prefix, other)},
    )


def _operation(name: str, prefix: str) -> dict[str, Any]:
    failures = {str(each): _component("responses", f"Status{each}") for each in FAILURES}
    return {
        "operationId": name,
        "requestBody": _component("requestBodies", f"{prefix}Request"),
        "responses": {"200": _component("responses", f"{prefix}Answer"), **failures},
    }


def _request_body(mode: Form, prefix: str) -> dict[str, Any]:
    request = ref(f"{prefix}Request")
    content: dict[str, Any] = {JSON: {"schema": request, "examples": _examples(mode)}}
    if takes_text(mode):
        text = mode.item_keys[TEXT.name]
        content[PLAIN] = {"schema": text.bounds(), "example": text.example}
        content[FORM] = {"schema": {**record({"data": text.bounds()}), "additionalProperties": {}}}
    return {"required": True, "content": content}


def _examples(mode: Form) -> dict[str, Any]:
    """A request of each form."""
    item = {field.name: field.example for field in mode.item_keys.values() if field.required}
    needed = {field.name: field.example for field in mode.parameters.values() if field.required}
    parameters = {PARAMETERS: needed} if needed else {}
    examples: dict[str, Any] = {
        "an input": {**item, **needed},
        "a list": {"inputs": [item, item], **parameters},
        "KServe": {INSTANCES: [item], **parameters},
    }
    if takes_tensors(mode):
        tensors = [
            {"name": name, "shape": [1], "datatype": "BYTES", "data": [value]}
            for name, value in item.items()
        ]
        examples["Open Inference"] = {"id": "7", "inputs": tensors, **parameters}
    return {name: {"value": value} for name, value in examples.items()}


def _answer(prefix: str, other: str) -> dict[str, Any]:
    content = {JSON: {"schema": ref(f"{prefix}Reply")}, other: {"schema": STRING}}
    return {"description": "The answer, in the form of the request.", "content": content}


def _failure(status: int) -> dict[str, Any]:
    description, names = FAILURES[status]
    schema: JsonSchema = ref(names[0]) if len(names) == 1 else either(*map(ref, names))
    return {"description": description, "content": {JSON: {"schema": schema}}}


def _component(kind: str, name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/{kind}/{name}"}


DESCRIBED = ("mode", "save_mode", "labels", "max_length", "precision", "versions", "source")


def describe_bundle(bundle: Bundle, running: Running) -> dict[str, Any]:
    """What was exported, and in which precision it runs here."""
    facts = asdict(bundle)
    return {
        **{name: facts[name] for name in DESCRIBED},
        "running": {"precision": running.precision, "reason": running.reason},
    }
