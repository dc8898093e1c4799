"""TorchServe's continuous batching: a call of the handler for each token.

The calls bring all requests that are not done, by their ids. One whose client is gone is missing
from the next call (of those that are streamed; of others TorchServe does not notice it).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torchscript_bundle.serving.api.http import EVENTS, HttpRequest, HttpResponse
from torchscript_bundle.serving.generation.generation_service import GenerationService
from torchscript_bundle.serving.generation.response_stream import ResponseStream
from torchscript_bundle.serving.torchserve import context as torchserve
from torchscript_bundle.serving.torchserve.continuous import (
    DescribeWatch,
    answered_whole,
    wait_if_refused,
)

#: The metric that counts what is written: it stands still where nobody waits.
TOKENS = "GeneratedTokens"
#: Says of a response whether another part of it follows; None where it has no parts.
Stopping = Callable[[Any], bool | None]


class GenerationWorker:
    """Hands TorchServe's calls to the service, and its answers back.

    Args:
        service: what answers.
    """

    def __init__(self, service: GenerationService) -> None:
        self._service = service
        self._open: dict[str, ResponseStream] = {}
        self._begun: set[str] = set()
        self._describe_watch = DescribeWatch()

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """One step: what each request gets now, if anything."""
        ids: dict[int, str] = dict(context.request_ids)
        self._forget_all_but(set(ids.values()))
        answered: dict[int, tuple[HttpRequest, HttpResponse]] = {}
        for at, row in enumerate(data):
            if ids[at] not in self._open:
                request = torchserve.read_request(row, context, at)
                self._describe_watch.saw(request, ids[at])
                opened = self._service.open(request)
                if isinstance(opened, HttpResponse):
                    answered[at] = request, opened
                else:
                    self._open[ids[at]] = opened
        before = self._service.counts()["tokens"]
        self._service.step()
        if len(answered) == len(data):
            wait_if_refused(request for request, _ in answered.values())
        if tokens := self._service.counts()["tokens"] - before:
            context.metrics.add_counter(TOKENS, tokens)
        stopping: dict[int, Stopping] = dict.fromkeys(ids, answered_whole)
        bodies = [
            torchserve.write_response(*answered[at], context, at)
            if at in answered
            else self._reply(ids[at], context, at, stopping)
            for at in range(len(data))
        ]
        context.stopping_criteria = stopping
        return bodies

    def _forget_all_but(self, ids: set[str]) -> None:
        for gone in self._open.keys() - ids:
            self._forget(gone)

    def _forget(self, request_id: str) -> None:
        """Ends what is still written for a request: of a list, one answer may have failed."""
        self._service.close(self._open.pop(request_id))
        self._begun.discard(request_id)

    def _reply(
        self, request_id: str, context: Any, at: int, stopping: dict[int, Stopping]
    ) -> bytes:
        exchange = self._open[request_id]
        if exchange.streamed:
            return self._stream(request_id, exchange, context, at, stopping)
        if not exchange.done:
            # TorchServe waits for the answer to a request that a response leaves out.
            del context.request_ids[at]
            return b""
        response = self._service.finish(exchange)
        self._forget(request_id)
        return torchserve.write_response(exchange.request, response, context, at)

    def _stream(
        self,
        request_id: str,
        exchange: ResponseStream,
        context: Any,
        at: int,
        stopping: dict[int, Stopping],
    ) -> bytes:
        begun = request_id in self._begun
        events = exchange.events()
        if not events and not exchange.done:  # also while it waits for its next turn
            del context.request_ids[at]
            return b""
        # TorchServe writes no head where the first part of a stream is the last.
        last = begun and exchange.done
        stopping[at] = _last if last else _more
        self._begun.add(request_id)
        if last:
            self._forget(request_id)
        torchserve.write_response(exchange.request, HttpResponse(200, EVENTS, events), context, at)
        return events


def _more(_: Any) -> bool | None:
    return False


def _last(_: Any) -> bool | None:
    return True
