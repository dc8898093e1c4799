"""An unpacked archive -> the worker that answers TorchServe's calls of the handler."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from torchscript_bundle.serving.artifact import Bundle, ServingOptions
from torchscript_bundle.serving.engine.devices import make_current
from torchscript_bundle.serving.engine.memory import limit_caches
from torchscript_bundle.serving.generation.generation_service import GenerationService
from torchscript_bundle.serving.modes import GENERATION_MODES
from torchscript_bundle.serving.observing import spans
from torchscript_bundle.serving.observing.steps import answered, received
from torchscript_bundle.serving.service import Service
from torchscript_bundle.serving.torchserve.context import (
    count_tokens,
    read_request,
    write_response,
)
from torchscript_bundle.serving.torchserve.continuous import ContinuousWorker
from torchscript_bundle.serving.torchserve.generation_worker import GenerationWorker

#: Environment variable: 1 lets all workers of a model map one copy of its weights.
SHARE_WEIGHTS = "SHARE_WEIGHTS"


class BatchWorker:
    """Answers every request of a call within that call."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Return the body for each row of data; set statuses and headers on the context."""
        requests = [read_request(row, context, at) for at, row in enumerate(data)]
        received(request.caller for request in requests)
        before = self._service.tokens
        pairs = [*zip(requests, self._service.answer(requests), strict=True)]
        count_tokens(context, self._service.tokens - before)
        for request, response in pairs:
            answered(request.caller, response.status)
        return [write_response(*pair, context, at) for at, pair in enumerate(pairs)]


def load_worker(
    folder: Path, device: torch.device, model_name: str
) -> BatchWorker | ContinuousWorker:
    """Load, check and warm up an unpacked archive; its mode decides the kind of worker."""
    spans.start(model_name)
    limit_caches()
    make_current(device)
    bundle = Bundle.load(folder)
    if bundle.mode in GENERATION_MODES:
        return GenerationWorker(GenerationService(folder, device, model_name))
    service = Service(folder, device, model_name)
    if os.environ.get(SHARE_WEIGHTS) == "1":
        # TorchServe unpacks an archive once for all its workers.
        service.share_weights(folder)
    if bundle.explanations:
        # Imported late: captum and regex are needed only here.
        from torchscript_bundle.serving.torchserve.explanation_worker import ExplanationWorker

        return ExplanationWorker(service, ServingOptions.load(folder).response_timeout / 2)
    return BatchWorker(service)
