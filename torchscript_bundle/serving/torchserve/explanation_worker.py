"""A worker that explains: predictions are answered at once, explanations by and by.

TorchServe's continuous batching calls the handler again and again while a request has no answer,
with those that came meanwhile; so predictions run between two passes of an explanation.
"""

from __future__ import annotations

import time
from typing import Any

from torchscript_bundle.serving.api.guards import guard
from torchscript_bundle.serving.api.http import HttpRequest, HttpResponse
from torchscript_bundle.serving.artifact import MOST_EXPLANATIONS
from torchscript_bundle.serving.explanations.running import RunningExplanations
from torchscript_bundle.serving.service import Service
from torchscript_bundle.serving.torchserve import context as torchserve
from torchscript_bundle.serving.torchserve.continuous import (
    DescribeWatch,
    answered_whole,
    wait_if_refused,
)

#: Under a load of predictions without a gap, the part of the time that explanations get.
LEAST_SHARE = 0.2


class ExplainingWorker:
    """Answers calls of continuous batching.

    Args:
        service: what answers.
        deadline: what an explanation may take (seconds). All that are under way may be estimated
            to take half of it: the rest is for predictions in between, and for estimates that
            were too low.
    """

    def __init__(self, service: Service, deadline: float) -> None:
        self._service = service
        self._turns = RunningExplanations(
            MOST_EXPLANATIONS, seconds=deadline / 2, deadline=deadline
        )
        self._describe_watch = DescribeWatch()
        self._requests: dict[str, HttpRequest] = {}
        self._next_turn = 0.0

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer what is new and can be answered; else let an explanation compute a pass."""
        ids: dict[int, str] = dict(context.request_ids)
        self._forget_all_but(set(ids.values()))
        new = {
            at: torchserve.read_request(row, context, at)
            for at, row in enumerate(data)
            if ids[at] not in self._turns
        }
        for at, request in new.items():
            self._describe_watch.saw(request, ids[at])
        responses = self._begin(new, ids, context)
        if len(responses) == len(data):
            wait_if_refused(new.values())
        if not new or time.monotonic() >= self._next_turn:
            self._take_turn()
        bodies = []
        for at in range(len(data)):
            response = responses[at] if at in responses else self._turns.pop_done(ids[at])
            if response is None:
                # TorchServe waits for the answer to a request that a response leaves out.
                del context.request_ids[at]
                bodies.append(b"")
            else:
                request = self._requests.pop(ids[at]) if at not in new else new[at]
                bodies.append(torchserve.write_response(request, response, context, at))
        context.stopping_criteria = dict.fromkeys(ids, answered_whole)
        return bodies

    def _forget_all_but(self, ids: set[str]) -> None:
        self._turns.forget_all_but(ids)
        for gone in self._requests.keys() - ids:
            del self._requests[gone]

    def _begin(
        self, new: dict[int, HttpRequest], ids: dict[int, str], context: Any
    ) -> dict[int, HttpResponse]:
        """Return the responses of all new requests but those that are explained from now on."""
        responses: dict[int, HttpResponse] = {}
        before = self._service.tokens
        begun = self._service.begin([*new.values()]) if new else []
        torchserve.count_tokens(self._service.tokens - before, context)
        for (at, request), answer in zip(new.items(), begun, strict=True):
            if not isinstance(answer, HttpResponse):
                refused = guard(self._turns.add, ids[at], answer)
                if refused is None:
                    self._requests[ids[at]] = request
                    continue
                answer = refused
            responses[at] = answer
        return responses

    def _take_turn(self) -> None:
        started = time.monotonic()
        self._turns.take()
        ended = time.monotonic()
        self._next_turn = ended + (ended - started) * (1 / LEAST_SHARE - 1)
