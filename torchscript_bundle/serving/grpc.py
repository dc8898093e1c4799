"""Errors over gRPC, where TorchServe passes on a response's body but not its status."""

from __future__ import annotations

import json
from typing import Any

from torchscript_bundle.serving.http import HttpRequest, HttpResponse
from torchscript_bundle.serving.protocols import open_inference

#: The output of an Open Inference reply that says what was wrong with a request.
OUTPUT = "error"


def encode(request: HttpRequest, response: HttpResponse, model_name: str) -> bytes:
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
