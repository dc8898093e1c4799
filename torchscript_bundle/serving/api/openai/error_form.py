"""Errors in the form of OpenAI's API (https://platform.openai.com/docs/guides/error-codes)."""

from __future__ import annotations

import json
from typing import Any

from torchscript_bundle.serving.api.http import HttpResponse, json_response
from torchscript_bundle.serving.api.json_schema import STRING, record

#: Status -> the one that this API has for it.
STATUSES = {422: 400}
_NULLABLE = {"type": ["string", "null"]}
SCHEMA = record(
    {"error": record({"message": STRING, "type": STRING, "param": _NULLABLE, "code": _NULLABLE})}
)


def error_body(status: int, message: str) -> dict[str, Any]:
    """Return an error in the form of OpenAI's API."""
    codes = {404: "model_not_found", 413: "context_length_exceeded"}
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": codes.get(status)}}


def in_openai_shape(response: HttpResponse) -> HttpResponse:
    """Give an error response the form of OpenAI's API; return others unchanged."""
    if response.status < 400:
        return response
    said = json.loads(response.body)["error"]
    if isinstance(said, dict):
        return response
    status = STATUSES.get(response.status, response.status)
    return json_response(status, error_body(response.status, said), response.headers)
