"""Continuous batching: what is answered now, later, in parts, or never."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import pytest

from tests.serving.torchserve.helpers import frame, receive
from torchscript_bundle.serving.api.http import HttpRequest, HttpResponse, json_response
from torchscript_bundle.serving.torchserve import continuous
from torchscript_bundle.serving.torchserve.continuous import ContinuousWorker, Part


class Counting(ContinuousWorker):
    """Answers "now" at once, and any other text after as many calls as it says, or streams it."""

    def __init__(self) -> None:
        super().__init__()
        self.left: dict[str, int] = {}
        self.streamed: set[str] = set()
        self.idle: list[bool] = []
        self.forgotten: list[str] = []

    def begin(self, requests: Mapping[str, HttpRequest], context: Any) -> dict[str, HttpResponse]:
        answered = {}
        for request_id, request in requests.items():
            [text] = request.fields.values()
            if request.purpose == "describe" or text == b"now":
                answered[request_id] = json_response(200, "now")
                continue
            self.left[request_id] = int(text.removeprefix(b"stream "))
            if text.startswith(b"stream"):
                self.streamed.add(request_id)
        return answered

    def advance(self, context: Any, *, idle: bool) -> None:
        self.idle.append(idle)
        self.left = {request_id: left - 1 for request_id, left in self.left.items()}

    def next_part(self, request_id: str) -> Part | None:
        left = self.left[request_id]
        if left and request_id not in self.streamed:
            return None
        if not left:
            del self.left[request_id]
        return Part(json_response(200, left), bool(left) if request_id in self.streamed else None)

    def forget(self, request_id: str) -> None:
        del self.left[request_id]
        self.forgotten.append(request_id)


def call(worker: Counting, **texts: str) -> tuple[list[bytes], Any]:
    """The bodies of a call with requests by their ids, and its context."""
    frames = [frame(("body", "", text.encode()), request_id=name) for name, text in texts.items()]
    rows, context = receive("", *frames)
    return worker.handle(rows, context), context


def test_requests_are_answered_when_they_are_done() -> None:
    worker = Counting()
    bodies, context = call(worker, a="now", b="2", c="1")
    assert bodies == [b'"now"', b"", b"0"]
    assert context.request_ids == {0: "a", 2: "c"}
    bodies, context = call(worker, b="2")
    assert (bodies, context.request_ids) == ([b"0"], {0: "b"})
    assert (worker.idle, worker.left) == ([False, True], {})


def test_parts_say_whether_another_follows() -> None:
    worker = Counting()
    found = []
    for _ in range(3):
        bodies, context = call(worker, a="stream 3", b="5")
        stops = [context.stopping_criteria[at](None) for at in range(2)]
        found.append((json.loads(bodies[0]), *stops))
    assert found == [(2, False, None), (1, False, None), (0, True, None)]
    assert set(worker.left) == {"b"}


def test_a_request_whose_client_is_gone_is_forgotten() -> None:
    worker = Counting()
    call(worker, a="5", b="5")
    call(worker, b="5", c="5")
    assert worker.forgotten == ["a"]
    assert worker.left == {"b": 3, "c": 4}
    call(worker, a="1")
    assert worker.forgotten[1:] == ["b", "c"] or worker.forgotten[1:] == ["c", "b"]


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the worker slept, without waiting so long."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


def test_calls_with_refused_requests_alone_wait(naps: list[float]) -> None:
    """TorchServe sends such a request again at once: no answer can end it."""
    refused = frame(("body", "", b"now"), headers={"ts_request_sequence_id": "1"})
    worker = Counting()
    rows, context = receive("", refused)
    assert worker.handle(rows, context) == [b""]
    assert (context.request_ids, naps) == ({}, [continuous.IDLE_SECONDS])
    rows, context = receive("", refused, frame(("body", "", b"5"), request_id="b"))
    worker.handle(rows, context)
    assert len(naps) == 1


def test_a_describe_call_that_comes_again_and_again_is_told(
    naps: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    worker = Counting()
    describe = {"headers": {"describe": "True"}}
    for request_id in ("a", "b", "b"):
        assert not caplog.records
        rows, context = receive("", frame(("body", "", b""), request_id=request_id, **describe))
        worker.handle(rows, context)
    assert "again and again" in caplog.text
