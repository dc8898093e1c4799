"""TorchServe's own request and context classes, for what it hands to a handler."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    # ts/__init__.py leaves its version.txt open.
    warnings.simplefilter("ignore", ResourceWarning)
    from ts.context import Context
    from ts.metrics.metrics_store import MetricsStore
    from ts.service import Service as TorchServeService

Frame = dict[str, Any]
Headers = dict[str, str]


def frame(
    *parameters: tuple[str, str, bytes], headers: Headers | None = None, request_id: str = "id"
) -> Frame:
    """One request as TorchServe's worker reads it off its socket."""
    return {
        "requestId": request_id.encode(),
        "parameters": [
            {"name": name, "contentType": content_type, "value": bytearray(value)}
            for name, content_type, value in parameters
        ],
        "headers": [
            {"name": name.encode(), "value": value.encode()}
            for name, value in (headers or {}).items()
        ],
    }


def receive(folder: Path | str, *frames: Frame) -> tuple[list[dict[str, Any]], Context]:
    """What TorchServe hands to a handler for a batch."""
    context = Context("tiny", str(folder), {}, len(frames), None, "0.12.0")
    processors, rows, context.request_ids = TorchServeService.retrieve_data_for_inference(frames)
    context.request_processor = processors
    context.metrics = MetricsStore(context.request_ids, "tiny")
    return rows, context
