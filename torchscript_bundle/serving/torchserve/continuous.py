"""What workers under TorchServe's continuous batching have in common.

TorchServe calls the handler again and again, with every request that is not answered yet and those
that came meanwhile. Two of its faults need care: calls that no answer ends.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torchscript_bundle.serving.api.http import HttpRequest

logger = logging.getLogger(__name__)

#: What is in the command line of TorchServe's Java process, a worker's parent.
TORCHSERVE = b"org.pytorch.serve.ModelServer"
#: How long a call waits that brings nothing to do.
IDLE_SECONDS = 0.1


def answered_whole(_: Any) -> bool | None:
    """Say of a response that it is no part of a stream, where TorchServe asks whether one ends."""
    return None


def wait_if_refused(requests: Iterable[HttpRequest]) -> None:
    """Wait a little where a call brings requests alone that TorchServe has refused already.

    No answer can end such a request (a call of StreamPredictions2), and it is sent again at once.
    """
    if all(request.client == "refused_grpc" for request in requests):
        time.sleep(IDLE_SECONDS)


class DescribeWatch:
    """Ends TorchServe where it has begun to send one describe call for ever.

    It serves nobody any more then, and what watches over it can start it again. `make serve` starts
    a TorchServe that does not do this, see `torchserve_fix`.
    """

    def __init__(self) -> None:
        self._last: str | None = None

    def saw(self, request: HttpRequest, request_id: str) -> None:
        """Look at a request that has just come."""
        if request.purpose != "describe":
            return
        if request_id != self._last:
            self._last = request_id
            return
        logger.error(
            "TorchServe sends a describe call again and again, and serves nothing else any more: "
            "it is ended. docs/operating.md says how a TorchServe is started that does not do this"
        )
        parent = os.getppid()
        if TORCHSERVE in Path(f"/proc/{parent}/cmdline").read_bytes():
            os.kill(parent, signal.SIGTERM)
        time.sleep(IDLE_SECONDS)
