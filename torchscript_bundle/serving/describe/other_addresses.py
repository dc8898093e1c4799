"""The addresses of other APIs in an OpenAPI document, after the model's version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torchscript_bundle.serving.api.http import JSON
from torchscript_bundle.serving.api.protocols import PROTOCOLS
from torchscript_bundle.serving.api.protocols.call import (
    VERSION,
    FailureForm,
    ProtocolSchemas,
    RequestFields,
    RequestProtocol,
)
from torchscript_bundle.serving.describe.parts import FAILURES, OURS, Part, any_of, component

#: Operation id -> the rest of an address.
PATHS = {
    f"predict_version_{path.replace('/', '_')}": path for each in PROTOCOLS for path in each.paths
}
#: Operation id -> address; `{}` stands for the model's name.
OTHER_ADDRESSES = {
    operation: f"/predictions/{{}}/{VERSION}/{path}" for operation, path in PATHS.items()
}


def describe_other_addresses(fields: RequestFields, most_items: int) -> Part:
    """Make the part for those addresses at which a mode with these fields answers."""
    part = Part({}, {}, {}, {})
    for operation, path in PATHS.items():
        described = {
            each: schema
            for each in PROTOCOLS
            if path in each.paths and (schema := each.describe(fields, most_items))
        }
        if described:
            # The last one gives errors their form.
            [*_, last] = described
            _add(part, operation, last, [*described.values()])
    return part


def _add(
    part: Part, operation: str, protocol: RequestProtocol, described: Sequence[ProtocolSchemas]
) -> None:
    """Add an address and the components that it refers to."""
    form = protocol.failures
    assert form is not None, f"{operation} has no form of errors"
    failures = _failures(form)
    reply = {JSON: {"schema": any_of(f"{each.name}Reply" for each in described)}}
    responses = {
        "200": {"description": "The answer.", "content": reply},
        **{str(status): component("responses", f"{form.name}{status}") for status in failures},
    }
    request = {"requestBody": _request_body(described)} if protocol.needs_body else {}
    part.paths[OTHER_ADDRESSES[operation]] = {
        "post" if request else "get": {
            "operationId": operation,
            **request,
            "responses": responses,
        }
    }
    part.schemas[f"{form.name}{OURS}"] = form.schema
    for each in described:
        part.schemas[f"{each.name}Reply"] = each.reply
        if request:
            part.schemas[f"{each.name}Request"] = each.request
    part.answers.update({f"{form.name}{status}": each for status, each in failures.items()})


def _request_body(described: Sequence[ProtocolSchemas]) -> dict[str, Any]:
    schema = any_of(f"{each.name}Request" for each in described)
    examples = {
        name: {"value": value} for each in described for name, value in each.examples.items()
    }
    return {"required": True, "content": {JSON: {"schema": schema, "examples": examples}}}


def _failures(form: FailureForm) -> dict[int, dict[str, Any]]:
    """Return the responses with errors by status: those of the API, and TorchServe's own."""
    found: dict[int, dict[str, str]] = {}
    for status, (description, names) in FAILURES.items():
        for name in names:
            own = name == OURS
            told = found.setdefault(form.statuses.get(status, status) if own else status, {})
            told[f"{form.name}{OURS}" if own else name] = description
    return {
        status: {
            "description": " ".join(dict.fromkeys(told.values())),
            "content": {JSON: {"schema": any_of(told)}},
        }
        for status, told in sorted(found.items())
    }
