"""TorchServe's context object, which no other file reads or sets."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Literal

from torchscript_bundle.serving.api.http import Client, HttpRequest, HttpResponse
from torchscript_bundle.serving.api.protocols import open_inference
from torchscript_bundle.serving.engine.padding import Tokens
from torchscript_bundle.serving.errors import REASONS
from torchscript_bundle.serving.observing.caller import TRACEPARENT, read_caller

#: Metrics: tokens that forward passes computed, and how many of them were padding.
COMPUTED_TOKENS, PADDING_TOKENS = "ComputedTokens", "PaddingTokens"
#: Prefix of the headers that TorchServe itself adds to a call of StreamPredictions2.
SEQUENCE = "ts_request_sequence"
#: Header with the size of the JSON before binary tensors.
JSON_SIZE = "inference-header-content-length"
#: TorchServe's entry for the part of the URL after the model and its version.
PATH = "url_path"
#: How huggingface_hub names itself in the User-Agent header.
HUGGINGFACE_HUB = "hf_hub/"
#: Name of the output of an Open Inference reply that holds an error.
ERROR_OUTPUT = "error"


def request_ids(context: Any) -> dict[int, str]:
    """Return the id of each row of a call; it stays the same from call to call."""
    return dict(context.request_ids)


def read_request(row: dict[str, Any], context: Any, index: int) -> HttpRequest:
    """Read one request of a call, from TorchServe's row of fields and its header map.

    In that map a string is a header, spelled as the client did; a dictionary holds the content type
    of a field.
    """
    entries = context.get_all_request_header(index)
    headers = {name.lower(): value for name, value in entries.items() if isinstance(value, str)}
    content_types = {
        name: _text(value.get("content-type"))
        for name, value in entries.items()
        if isinstance(value, dict)
    }
    if "body" in row and "content-type" in headers:
        content_types["body"] = headers["content-type"]
    return HttpRequest(
        {name: bytes(value) for name, value in row.items()},
        content_types,
        headers.get("accept", "*/*"),
        _purpose(row, entries),
        _client(headers, content_types),
        headers.get(JSON_SIZE, ""),
        headers.get(PATH, "").strip("/"),
        read_caller(headers, request_ids(context)[index]),
    )


def write_response(request: HttpRequest, response: HttpResponse, context: Any, index: int) -> bytes:
    """Set status and headers of one response on the context and return its body."""
    context.set_response_status(response.status, REASONS[response.status], index)
    if response.content_type:
        context.set_response_content_type(index, response.content_type)
    for name, value in response.headers.items():
        context.set_response_header(index, name, value)
    if request.client in ("http", "huggingface_hub"):
        # TorchServe writes `x-request-id` itself, whatever is set here.
        if request.caller.traceparent:
            context.set_response_header(index, TRACEPARENT, request.caller.traceparent)
        return response.body
    if request.client == "refused_grpc":
        # The call is over: TorchServe ends the worker, for good, if it is answered.
        return defer(context, index)
    # StreamPredictions asks for this header, and ends the worker without it.
    context.set_response_header(index, "ts_stream_next", "false")
    return _encode_grpc(request, response, context.model_name)


def defer(context: Any, index: int) -> bytes:
    """Leave a request unanswered in this call; TorchServe sends it again with the next one."""
    del context.request_ids[index]
    return b""


def set_streams(context: Any, more: Mapping[int, bool | None]) -> None:
    """Tell TorchServe whether each response has another part; None where it is not streamed."""
    context.stopping_criteria = {index: _is_last(follows) for index, follows in more.items()}


def _is_last(more: bool | None) -> Callable[[Any], bool | None]:
    """Return the function by which TorchServe asks whether a part is the last."""
    return lambda _: None if more is None else not more


def count(context: Any, metric: str, value: int) -> None:
    """Add to one of the worker's metrics."""
    context.metrics.add_counter(metric, value)


def count_tokens(context: Any, tokens: Tokens) -> None:
    """Add the tokens of forward passes to the worker's metrics."""
    if tokens.computed:
        count(context, COMPUTED_TOKENS, tokens.computed)
        count(context, PADDING_TOKENS, tokens.computed - tokens.real)


def _client(headers: dict[str, str], content_types: dict[str, str]) -> Client:
    """Over gRPC no client header arrives, and TorchServe turns ModelInfer's message into JSON."""
    if not headers:
        is_json = content_types.get("body") == "application/json"
        return "open_inference_grpc" if is_json else "grpc"
    if all(name.startswith(SEQUENCE) for name in headers):
        return "refused_grpc"
    return "huggingface_hub" if HUGGINGFACE_HUB in headers.get("user-agent", "") else "http"


def _purpose(
    row: dict[str, Any], entries: dict[str, Any]
) -> Literal["predict", "explain", "describe"]:
    """Return the endpoint, from two entries of TorchServe that are spelled exactly so.

    A describe call has no body; a client that sends the header with a text wants a prediction.
    """
    if entries.get("explain") == "True":
        return "explain"
    return "describe" if entries.get("describe") == "True" and not any(row.values()) else "predict"


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, (bytes, bytearray)) else str(value or "")


def _encode_grpc(request: HttpRequest, response: HttpResponse, model_name: str) -> bytes:
    """Return a body for gRPC, where an error holds its status beside its sentence.

    An Open Inference error is a complete reply: TorchServe ends the worker if a member is missing.
    """
    if response.status < 400:
        return response.body
    error: dict[str, Any] = {**json.loads(response.body), "status": response.status}
    if request.client == "open_inference_grpc":
        # TorchServe wrote this body from the client's message, so it has an id.
        identity = json.loads(request.fields["body"])["id"]
        error = {"id": identity, **open_inference.reply(model_name, ERROR_OUTPUT, [error])}
    return json.dumps(error, ensure_ascii=False).encode("utf-8")
