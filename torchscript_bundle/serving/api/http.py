"""One request and its response, free of TorchServe's own types."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torchscript_bundle.serving.errors import RequestError

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"
#: Always UTF-8, by its standard; `requests` takes any text for Latin-1 where no charset is stated.
EVENTS = "text/event-stream; charset=utf-8"

#: TorchServe kills a worker whose response is longer (bytes); `max_response_size` in
#: deploy/config.properties says the same number.
MAX_RESPONSE_SIZE = 6_553_500

#: Who asks, where that decides how a request is read or answered: anyone over HTTP, the
#: InferenceClient of huggingface_hub over HTTP, either of TorchServe's gRPC services, or a call of
#: StreamPredictions2, which TorchServe has refused before the handler sees it.
Client = Literal["http", "huggingface_hub", "grpc", "open_inference_grpc", "refused_grpc"]


@dataclass(frozen=True)
class HttpRequest:
    """What a client sent.

    Attributes:
        fields: form fields by name, or the whole body under `"body"`; over gRPC the input map.
        content_types: content type of each field, where one was sent.
        accept: the Accept header.
        purpose: which endpoint the request came through.
        client: who asks.
        json_size: bytes of the body that are JSON, where binary tensors follow them; "" where none
            do. As the client wrote it.
        path: what follows the model and its version in the address.
    """

    fields: dict[str, bytes]
    content_types: dict[str, str]
    accept: str = "*/*"
    purpose: Literal["predict", "explain", "describe"] = "predict"
    client: Client = "http"
    json_size: str = ""
    path: str = ""

    @property
    def size(self) -> int:
        """Bytes that the client sent, of all fields together."""
        return sum(map(len, self.fields.values()))


@dataclass(frozen=True)
class HttpResponse:
    """What the client gets.

    Attributes:
        status: one of `errors.REASONS`.
        content_type: the body's media type.
        body: its bytes.
        headers: further headers, ASCII without line breaks.
    """

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def retry_headers(error: RequestError) -> dict[str, str]:
    """Return the header that says when to come again, where an error says so."""
    return {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}


def json_response(
    status: int, value: Any, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    """A value as strict JSON, in UTF-8.

    Raises:
        ValueError: a number in it is not finite.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return HttpResponse(status, JSON, text.encode("utf-8"), headers or {})


def prefers_plain_text(accept: str) -> bool:
    """Whether an Accept header ranks text/plain above application/json.

    `*/*`, an empty or a malformed header mean JSON, the form that says everything.
    Source: RFC 9110, section 12.5.1.
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
