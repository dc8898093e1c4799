"""TorchServe's continuous batching: requests that stay open over several calls of the handler.

Each call of the handler brings all unanswered requests and the new ones. A streamed request whose
client is gone is missing from the next call; for other requests TorchServe does not notice it.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchscript_bundle.serving.api.http import HttpRequest, HttpResponse
from torchscript_bundle.serving.observing.steps import GONE, answered, received
from torchscript_bundle.serving.torchserve.context import (
    defer,
    read_request,
    request_ids,
    set_streams,
    write_response,
)

logger = logging.getLogger(__name__)

#: In the command line of TorchServe's Java process, a worker's parent.
TORCHSERVE = b"org.pytorch.serve.ModelServer"
#: Pause after a call that cannot be answered, which TorchServe repeats at once.
IDLE_SECONDS = 0.1


@dataclass(frozen=True)
class Part:
    """A request's part of one call.

    `response` is whole, or the next part of a stream; `more` says whether another part follows, and
    is None where the response is not streamed. `failed` is the status of the error that ends a
    stream.
    """

    response: HttpResponse
    more: bool | None = None
    failed: int | None = None


class ContinuousWorker(ABC):
    """Keeps unanswered requests by TorchServe's ids."""

    def __init__(self) -> None:
        self._open: dict[str, HttpRequest] = {}
        self._last_describe = ""

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Begin new requests, advance the open ones, and answer those that are done."""
        ids = request_ids(context)
        for gone in self._open.keys() - ids.values():
            answered(self._open.pop(gone).caller, GONE)
            self.forget(gone)
        new = {
            ids[at]: read_request(row, context, at)
            for at, row in enumerate(data)
            if ids[at] not in self._open
        }
        for request_id, request in new.items():
            self._watch_describe(request_id, request)
        received(request.caller for request in new.values())
        self._open |= new
        parts = {each: Part(response) for each, response in self.begin(new, context).items()}
        if len(parts) == len(data) and all(each.client == "refused_grpc" for each in new.values()):
            time.sleep(IDLE_SECONDS)
        self.advance(context, idle=not new)
        bodies = []
        more: dict[int, bool | None] = dict.fromkeys(ids)
        for at in range(len(data)):
            part = parts.get(ids[at]) or self.next_part(ids[at])
            if part is None:
                bodies.append(defer(context, at))
                continue
            more[at] = part.more
            request = self._open[ids[at]] if part.more else self._open.pop(ids[at])
            if not part.more:
                answered(request.caller, part.failed or part.response.status)
            bodies.append(write_response(request, part.response, context, at))
        set_streams(context, more)
        return bodies

    @abstractmethod
    def begin(self, requests: Mapping[str, HttpRequest], context: Any) -> dict[str, HttpResponse]:
        """Return the immediate responses to new requests; keep the others."""

    @abstractmethod
    def advance(self, context: Any, *, idle: bool) -> None:
        """Compute a step for the kept requests; `idle` says that the call brought no new ones."""

    @abstractmethod
    def next_part(self, request_id: str) -> Part | None:
        """Return the part of a kept request that is ready now; forget it after the last."""

    @abstractmethod
    def forget(self, request_id: str) -> None:
        """Drop a kept request whose client is gone."""

    def _watch_describe(self, request_id: str, request: HttpRequest) -> None:
        """End TorchServe if it has begun to send one describe call for ever.

        It then serves nobody, and its supervisor can restart it. `make serve` starts a TorchServe
        without this fault, see `torchserve_fix`.
        """
        if request.purpose != "describe":
            return
        if request_id != self._last_describe:
            self._last_describe = request_id
            return
        logger.error(
            "TorchServe sends a describe call again and again, and serves nothing else any more: "
            "it is ended. docs/operating.md says how a TorchServe is started that does not do this"
        )
        parent = os.getppid()
        if TORCHSERVE in Path(f"/proc/{parent}/cmdline").read_bytes():
            os.kill(parent, signal.SIGTERM)
        time.sleep(IDLE_SECONDS)
