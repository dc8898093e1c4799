"""Workers under continuous batching: the service's own answers, at the end or in parts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.serving.generation.helpers import Written
from tests.serving.helpers import CPU
from tests.serving.torchserve.helpers import Frame, frame, receive
from torchscript_bundle.serving.api.http import HttpRequest
from torchscript_bundle.serving.service import Service
from torchscript_bundle.serving.torchserve.continuous import ContinuousWorker
from torchscript_bundle.serving.torchserve.explanation_worker import ExplanationWorker
from torchscript_bundle.serving.torchserve.generation_worker import GenerationWorker

JSON = "application/json"
HTTP = {"Host": "here"}
CALLS = 500


def asked(request_id: str, value: object, **headers: str) -> Frame:
    body = json.dumps(value).encode()
    return frame(("body", JSON, body), headers={**HTTP, **headers}, request_id=request_id)


def run(worker: ContinuousWorker, *frames: Frame) -> dict[str, list[tuple[int, bytes]]]:
    """Status and body of each part that requests get, called as TorchServe does."""
    left = {each["requestId"].decode(): each for each in frames}
    found: dict[str, list[tuple[int, bytes]]] = {name: [] for name in left}
    for _ in range(CALLS):
        rows, context = receive("", *left.values())
        bodies = worker.handle(rows, context)
        for at, name in context.request_ids.items():
            found[name].append((context.get_response_status(at)[0], bodies[at]))
            if context.stopping_criteria[at](None) is not False:
                del left[name]
        if not left:
            return found
    raise AssertionError(f"not answered: {[*left]}")


def test_writers_answer_whole_or_in_events(written: Callable[[str], Written]) -> None:
    worker = GenerationWorker(written("gpt2").service())
    body: dict[str, Any] = {"inputs": "cold soup", "parameters": {"max_new_tokens": 6}}
    found = run(worker, asked("a", body), asked("b", {**body, "stream": True}), asked("c", 5))
    [(status, whole)] = found["a"]
    assert status == 200
    [(status, error)] = found["c"]
    assert (status, "error" in json.loads(error)) == (422, True)
    assert len(found["b"]) > 2
    assert {status for status, _ in found["b"]} == {200}
    events = b"".join(part for _, part in found["b"]).decode().split("\n\n")
    *_, last = (json.loads(each.removeprefix("data:")) for each in events if each)
    assert json.loads(whole)[0]["generated_text"] == last["generated_text"]
    assert (worker._open, worker._streams, worker._streaming) == ({}, {}, set())


@pytest.fixture
def explaining(explained: Callable[[str], Path]) -> Service:
    return Service(explained("bert"), CPU, "m")


def test_predictions_are_answered_before_explanations(explaining: Service) -> None:
    worker = ExplanationWorker(explaining, deadline=60)
    text = {"text": "It works."}
    frames = [asked("a", text, explain="True"), asked("b", text)]
    rows, context = receive("", *frames)
    bodies = worker.handle(rows, context)
    assert context.request_ids == {1: "b"}
    assert json.loads(bodies[1])["label"]
    [(status, explained)] = run(worker, frames[0])["a"]
    request = HttpRequest({"body": json.dumps(text).encode()}, {"body": JSON}, purpose="explain")
    [expected] = explaining.answer([request])
    assert (status, json.loads(explained)) == (200, json.loads(expected.body))


def test_an_explanation_that_nobody_waits_for_is_ended(explaining: Service) -> None:
    worker = ExplanationWorker(explaining, deadline=60)
    rows, context = receive("", asked("a", {"text": "It works."}, explain="True"))
    assert worker.handle(rows, context) == [b""]
    [(status, _)] = run(worker, asked("b", {"text": "It works."}))["b"]
    assert (status, len(worker._turns), worker._open) == (200, 0, {})
