"""What the parts of an OpenAPI document share: components, and the statuses of errors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torchscript_bundle.serving.api.http import JSON
from torchscript_bundle.serving.api.json_schema import JsonSchema, either
from torchscript_bundle.serving.api.protocols.schemas import ref

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
    504: ("The deadline that the request has in X-Request-Deadline came first.", (OURS,)),
    507: ("The worker was killed with this request.", (THEIRS,)),
}


@dataclass(frozen=True)
class Part:
    """Addresses, and the components that they refer to."""

    paths: dict[str, Any]
    schemas: dict[str, Any]
    bodies: dict[str, Any]
    answers: dict[str, Any]


def failure(status: int) -> dict[str, Any]:
    """Return the response with an error of this status."""
    description, names = FAILURES[status]
    return {"description": description, "content": {JSON: {"schema": any_of(names)}}}


def any_of(names: Iterable[str]) -> JsonSchema:
    """Return the schema of what one of these schemas accepts, by their names."""
    refs = [ref(name) for name in names]
    return refs[0] if len(refs) == 1 else either(*refs)


def component(kind: str, name: str) -> dict[str, Any]:
    """Return a reference to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}
