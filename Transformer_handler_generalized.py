"""The class that TorchServe calls.

TorchServe wants exactly one class in this file; everything else is in
`torchscript_bundle/serving/`, which travels in the same archive.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch

from torchscript_bundle.serving.engine.devices import choose_device
from torchscript_bundle.serving.observing import log_lines
from torchscript_bundle.serving.torchserve.worker import load_worker

logger = logging.getLogger(__name__)


class TransformerHandler:
    """Serves one archive in one TorchServe worker."""

    def initialize(self, context: Any) -> None:
        """Load, check and warm up the artifact; TorchServe calls this once a worker.

        Raises:
            ArtifactError: the archive cannot be served; TorchServe shows the message in its log.
        """
        log_lines.set_up()
        # Bodies come as the client sent them, also where config.properties does not say so.
        os.environ["TS_DECODE_INPUT_REQUEST"] = "false"
        properties = context.system_properties
        device = choose_device(properties.get("gpu_id"), cuda_available=torch.cuda.is_available())
        self._worker = load_worker(Path(properties["model_dir"]), device, context.model_name)
        logger.info("ready on %s, %d intra-op threads", device, torch.get_num_threads())

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Return the body for each row of data; set statuses and headers on the context."""
        return self._worker.handle(data, context)
