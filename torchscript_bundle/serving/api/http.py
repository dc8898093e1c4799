"""A request and its response, free of TorchServe's own types."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.observing.caller import Caller

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"
#: Always UTF-8 by its standard; `requests` reads any text without a charset as Latin-1.
EVENTS = "text/event-stream; charset=utf-8"
#: Tells nginx, and proxies that follow it, to pass on each part of a stream at once.
AS_IT_COMES = {"X-Accel-Buffering": "no"}

#: TorchServe kills a worker whose response is longer (bytes); `max_response_size` in
#: server/config.properties says the same number.
MAX_RESPONSE_SIZE = 6_553_500

#: The clients with requests or answers of their own form. "http" is any other; "huggingface_hub" is
#: its InferenceClient; "refused_grpc" is StreamPredictions2, which TorchServe itself refuses.
Client = Literal["http", "huggingface_hub", "grpc", "open_inference_grpc", "refused_grpc"]


@dataclass(frozen=True)
class HttpRequest:
    """A request, as the client sent it.

    Attributes:
        fields: form fields by name, or the whole body under `"body"`; over gRPC the input map.
        json_size: bytes of the JSON before binary tensors, as the client wrote it; else "".
        path: the part of the URL after the model and its version.
        caller: what its headers say about it.
    """

    fields: dict[str, bytes]
    content_types: dict[str, str]
    accept: str = "*/*"
    purpose: Literal["predict", "explain", "describe"] = "predict"
    client: Client = "http"
    json_size: str = ""
    path: str = ""
    caller: Caller = field(default_factory=Caller, compare=False)

    @property
    def size(self) -> int:
        """The bytes of all fields."""
        return sum(map(len, self.fields.values()))


@dataclass(frozen=True)
class HttpResponse:
    """A response; `headers` are ASCII without line breaks, `content_type` may be empty."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def retry_headers(error: RequestError) -> dict[str, str]:
    """Return the Retry-After header of an error that has one."""
    return {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}


def json_response(
    status: int, value: Any, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    """Make a JSON response in UTF-8; raise ValueError for NaN and infinity."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return HttpResponse(status, JSON, text.encode("utf-8"), headers or {})


def prefers_plain_text(accept: str) -> bool:
    """Return whether an Accept header ranks text/plain above application/json (RFC 9110, 12.5.1).

    `*/*`, an empty or a malformed header mean JSON, the complete form.
    """
    quality: dict[str, float] = {}
    for entry in accept.lower().split(","):
        media_type, *parameters = (part.strip() for part in entry.split(";"))
        weights = [p.removeprefix("q=") for p in parameters if p.startswith("q=")]
        try:
            quality[media_type] = float(weights[0]) if weights else 1.0
        except ValueError:
            quality[media_type] = 0.0
    anything = quality.get("*/*", 0.0)
    plain = quality.get("text/plain", quality.get("text/*", anything))
    as_json = quality.get("application/json", quality.get("application/*", anything))
    return plain > as_json
