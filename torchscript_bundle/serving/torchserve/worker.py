"""An unpacked archive -> what answers TorchServe's calls of the handler; the mode decides."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

import torch

from torchscript_bundle.serving.artifact import Bundle, ServingOptions
from torchscript_bundle.serving.engine.devices import make_current
from torchscript_bundle.serving.engine.memory import limit_caches
from torchscript_bundle.serving.generation.generation_service import GenerationService
from torchscript_bundle.serving.modes import GENERATION_MODES
from torchscript_bundle.serving.service import Service
from torchscript_bundle.serving.torchserve import context as torchserve
from torchscript_bundle.serving.torchserve.generation_worker import GenerationWorker

#: Environment variable that is 1 where workers of a model are to hold its weights in memory once.
SHARE_WEIGHTS = "SHARE_WEIGHTS"


class Worker(Protocol):
    """Answers the handler's calls."""

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """The body for each row of data; statuses and headers are set on the context."""


class BatchWorker:
    """Answers each call whole.

    Args:
        service: what answers.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """See `Worker`."""
        requests = [torchserve.read_request(row, context, at) for at, row in enumerate(data)]
        before = self._service.tokens
        pairs = zip(requests, self._service.answer(requests), strict=True)
        torchserve.count_tokens(self._service.tokens - before, context)
        return [torchserve.write_response(*pair, context, at) for at, pair in enumerate(pairs)]


def load_worker(folder: Path, device: torch.device, model_name: str) -> Worker:
    """Loads, checks and warms up the artifact in a folder.

    Args:
        folder: the unpacked archive.
        device: where the module runs.
        model_name: what the model is called in URLs.

    Raises:
        ArtifactError: the archive cannot be served.
    """
    limit_caches()
    make_current(device)
    bundle = Bundle.load(folder)
    if bundle.mode in GENERATION_MODES:
        return GenerationWorker(GenerationService(folder, device, model_name))
    service = Service(folder, device, model_name)
    if os.environ.get(SHARE_WEIGHTS) == "1":
        # TorchServe unpacks an archive once for all its workers, into a folder that goes with it.
        service.share_weights(folder)
    if bundle.explanations:
        # Its libraries are imported only where an artifact needs them.
        from torchscript_bundle.serving.torchserve.explanation_worker import ExplainingWorker

        return ExplainingWorker(service, ServingOptions.load(folder).response_timeout / 2)
    return BatchWorker(service)
