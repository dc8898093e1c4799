"""TorchServe's requests and responses <-> ours.

All that is known of its context object is here and, for answers that come in steps, in
`generation/worker.py`.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from torchscript_bundle.serving.api.http import Client, HttpRequest, HttpResponse
from torchscript_bundle.serving.api.protocols import open_inference
from torchscript_bundle.serving.engine.padding import Tokens
from torchscript_bundle.serving.errors import REASONS

#: The metrics that count what passes took in, and how much of it was padding.
COMPUTED_TOKENS, PADDING_TOKENS = "ComputedTokens", "PaddingTokens"
#: How the names of the headers begin that TorchServe itself adds to a call of StreamPredictions2.
SEQUENCE = "ts_request_sequence"
#: Says that binary tensors follow a JSON of this size.
JSON_SIZE = "inference-header-content-length"
#: TorchServe puts what follows the model and its version in the address here.
PATH = "url_path"
#: What huggingface_hub calls itself in the User-Agent header.
HUGGINGFACE_HUB = "hf_hub/"


def read_request(row: dict[str, Any], context: Any, index: int) -> HttpRequest:
    """One request of a batch, from TorchServe's row of fields and its header map.

    In that map a string is a header of the request, in the client's spelling, and a dictionary
    holds the content type of a field.
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
    fields = {name: bytes(value) for name, value in row.items()}
    return HttpRequest(
        fields,
        content_types,
        headers.get("accept", "*/*"),
        _purpose(row, entries),
        _client(headers, content_types),
        headers.get(JSON_SIZE, ""),
        headers.get(PATH, "").strip("/"),
    )


def write_response(request: HttpRequest, response: HttpResponse, context: Any, index: int) -> bytes:
    """Sets status and content type of one response on the context and returns its body."""
    context.set_response_status(response.status, REASONS[response.status], index)
    context.set_response_content_type(index, response.content_type)
    for name, value in response.headers.items():
        context.set_response_header(index, name, value)
    if request.client in ("http", "huggingface_hub"):
        return response.body
    if request.client == "refused_grpc":
        # TorchServe ends the worker, for good, where an answer comes to a call that is over.
        del context.request_ids[index]
        return b""
    # StreamPredictions asks for this header, and ends the worker without it.
    context.set_response_header(index, "ts_stream_next", "false")
    return encode_grpc(request, response, context.model_name)


def count_tokens(took: Tokens, context: Any) -> None:
    """Add what passes took in to the worker's metrics."""
    if took.computed:
        context.metrics.add_counter(COMPUTED_TOKENS, took.computed)
        context.metrics.add_counter(PADDING_TOKENS, took.computed - took.real)


def _client(headers: dict[str, str], content_types: dict[str, str]) -> Client:
    """Over gRPC no header of the client arrives; TorchServe makes ModelInfer's message JSON."""
    if not headers:
        is_json = content_types.get("body") == "application/json"
        return "open_inference_grpc" if is_json else "grpc"
    if all(name.startswith(SEQUENCE) for name in headers):
        return "refused_grpc"
    return "huggingface_hub" if HUGGINGFACE_HUB in headers.get("user-agent", "") else "http"


def _purpose(
    row: dict[str, Any], entries: dict[str, Any]
) -> Literal["predict", "explain", "describe"]:
    """Which endpoint was called: TorchServe says it in two entries, spelled just so.

    A describe call has no body; a client that sends the header with a text wants the text answered.
    """
    if entries.get("explain") == "True":
        return "explain"
    return "describe" if entries.get("describe") == "True" and not any(row.values()) else "predict"


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, (bytes, bytearray)) else str(value or "")


#: The output of an Open Inference reply that says what was wrong with a request.
OUTPUT = "error"


def encode_grpc(request: HttpRequest, response: HttpResponse, model_name: str) -> bytes:
    """The body that goes out over gRPC: an error's status stands beside its sentence.

    For the Open Inference Protocol it is a reply with all its members: TorchServe reads them and
    ends the worker where one is missing.

    Args:
        request: came over gRPC.
        response: the service's answer to it.
        model_name: what replies of the Open Inference Protocol are signed with.
    """
    if response.status < 400:
        return response.body
    error: dict[str, Any] = {**json.loads(response.body), "status": response.status}
    if request.client == "open_inference_grpc":
        # TorchServe wrote this body, from the client's message.
        identity = json.loads(request.fields["body"])["id"]
        error = {"id": identity, **open_inference.reply(model_name, OUTPUT, [error])}
    return json.dumps(error, ensure_ascii=False).encode("utf-8")
