"""A worker that runs predictions between two passes of an explanation."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from torchscript_bundle.serving.api.guards import guard
from torchscript_bundle.serving.api.http import HttpRequest, HttpResponse
from torchscript_bundle.serving.artifact import MOST_EXPLANATIONS
from torchscript_bundle.serving.explanations.running import RunningExplanations
from torchscript_bundle.serving.observing.log_lines import About
from torchscript_bundle.serving.service import Service
from torchscript_bundle.serving.torchserve.context import count_tokens
from torchscript_bundle.serving.torchserve.continuous import ContinuousWorker, Part

#: Part of the time that explanations get while predictions come without a gap.
LEAST_SHARE = 0.2


class ExplanationWorker(ContinuousWorker):
    """Answers predictions at once, and explanations a pass at a time.

    An explanation may take `deadline` seconds. The estimates of all in progress may reach half of
    that: the rest is for predictions in between, and for estimates that were too low.
    """

    def __init__(self, service: Service, deadline: float) -> None:
        super().__init__()
        self._service = service
        self._turns = RunningExplanations(
            MOST_EXPLANATIONS, seconds=deadline / 2, deadline=deadline
        )
        self._next_turn = 0.0

    def begin(self, requests: Mapping[str, HttpRequest], context: Any) -> dict[str, HttpResponse]:
        if not requests:
            return {}
        responses: dict[str, HttpResponse] = {}
        before = self._service.tokens
        begun = self._service.begin([*requests.values()])
        count_tokens(context, self._service.tokens - before)
        for (request_id, request), result in zip(requests.items(), begun, strict=True):
            if not isinstance(result, HttpResponse):
                with About([request.caller]):
                    refused = guard(self._turns.add, request_id, result, request.caller)
                if refused is None:
                    continue
                result = refused
            responses[request_id] = result
        return responses

    def advance(self, context: Any, *, idle: bool) -> None:
        started = time.monotonic()
        if idle or started >= self._next_turn:
            self._turns.take()
            ended = time.monotonic()
            self._next_turn = ended + (ended - started) * (1 / LEAST_SHARE - 1)

    def next_part(self, request_id: str) -> Part | None:
        response = self._turns.pop_done(request_id)
        return None if response is None else Part(response)

    def forget(self, request_id: str) -> None:
        self._turns.forget(request_id)
