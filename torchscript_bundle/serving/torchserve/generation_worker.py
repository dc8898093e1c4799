"""A worker that generates text: each call of the handler generates a token of every answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torchscript_bundle.serving.api.http import (
    AS_IT_COMES,
    EVENTS,
    HttpRequest,
    HttpResponse,
)
from torchscript_bundle.serving.generation.generation_service import GenerationService
from torchscript_bundle.serving.generation.response_stream import ResponseStream
from torchscript_bundle.serving.torchserve.context import count
from torchscript_bundle.serving.torchserve.continuous import ContinuousWorker, Part

#: Metric: generated tokens; it stands still where nobody waits.
GENERATED_TOKENS = "GeneratedTokens"


class GenerationWorker(ContinuousWorker):
    """Passes TorchServe's calls to the service, and its answers back."""

    def __init__(self, service: GenerationService) -> None:
        super().__init__()
        self._service = service
        self._streams: dict[str, ResponseStream] = {}
        self._streaming: set[str] = set()

    def begin(self, requests: Mapping[str, HttpRequest], context: Any) -> dict[str, HttpResponse]:
        opened = {each: self._service.open(request) for each, request in requests.items()}
        refused = {
            each: result for each, result in opened.items() if isinstance(result, HttpResponse)
        }
        self._streams |= {
            each: result for each, result in opened.items() if isinstance(result, ResponseStream)
        }
        return refused

    def advance(self, context: Any, *, idle: bool) -> None:
        before = self._service.counts()["tokens"]
        self._service.step()
        if tokens := self._service.counts()["tokens"] - before:
            count(context, GENERATED_TOKENS, tokens)

    def next_part(self, request_id: str) -> Part | None:
        stream = self._streams[request_id]
        if stream.streamed:
            return self._next_events(request_id, stream)
        if not stream.done:
            return None
        response = self._service.finish(stream)
        self.forget(request_id)
        return Part(response)

    def _next_events(self, request_id: str, stream: ResponseStream) -> Part | None:
        events = stream.events()
        if not events and not stream.done:  # also while it waits for its next turn
            return None
        # TorchServe writes no head where the first part of a stream is the last.
        more = request_id not in self._streaming or not stream.done
        self._streaming.add(request_id)
        if not more:
            self.forget(request_id)
        failed = stream.failure.status if stream.failure is not None else None
        return Part(HttpResponse(200, EVENTS, events, AS_IT_COMES), more, failed)

    def forget(self, request_id: str) -> None:
        self._service.close(self._streams.pop(request_id))
        self._streaming.discard(request_id)
