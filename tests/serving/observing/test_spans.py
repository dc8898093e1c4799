"""Spans of requests and of the passes that they share, as a receiver gets them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.otlp import Receiver, Span, receiving
from tests.serving.generation.helpers import Written
from tests.serving.helpers import CPU
from tests.serving.torchserve.helpers import receive
from tests.serving.torchserve.test_workers import asked, run
from torchscript_bundle.serving.observing import spans
from torchscript_bundle.serving.service import Service
from torchscript_bundle.serving.torchserve.explanation_worker import ExplanationWorker
from torchscript_bundle.serving.torchserve.generation_worker import GenerationWorker
from torchscript_bundle.serving.torchserve.worker import BatchWorker

TRACES = [f"{at:032x}" for at in range(1, 5)]
CLIENT = "00f067aa0ba902b7"


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver that the spans of this process are sent to."""
    with receiving() as found:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
        monkeypatch.setattr(spans, "_current", None)
        spans.start("tiny")
        tracer = spans.current()
        assert tracer is not None
        yield found
        tracer.provider.shutdown()


def sent(receiver: Receiver, name: str = "", trace: str = "") -> list[Span]:
    """What was sent until now."""
    tracer = spans.current()
    assert tracer is not None
    assert tracer.provider.force_flush()
    return receiver.named(name, trace) if name else receiver.spans


def traced(at: int, value: object, *, flags: str = "01", **headers: str) -> Any:
    """A request of a trace."""
    parent = f"00-{TRACES[at]}-{CLIENT}-{flags}"
    return asked(str(at), value, traceparent=parent, **headers)


def handle(worker: BatchWorker, *frames: Any) -> list[Any]:
    rows, context = receive("", *frames)
    return [json.loads(body) for body in worker.handle(rows, context)]


def test_a_request_and_its_steps(service: Callable[[str], Service], receiver: Receiver) -> None:
    [answer] = handle(BatchWorker(service("bert")), traced(0, "a secret"))
    assert answer["label"]
    [request] = sent(receiver, "request")
    assert (request.trace, request.parent, request.failed) == (TRACES[0], CLIENT, False)
    assert request.attributes == {
        "model": "tiny",
        "request_id": "0",
        "http.response.status_code": 200,
    }
    steps = [span for span in receiver.spans if span is not request]
    assert [span.name for span in steps] == ["tokenize", "forward", "encode"]
    assert {(span.trace, span.parent) for span in steps} == {(TRACES[0], request.id)}
    assert request.start <= steps[0].start and steps[-1].end <= request.end
    assert all(before.end <= after.start for before, after in pairwise(steps))
    assert {span.service for span in receiver.spans} == {"torchscript-bundle"}
    assert not [body for body in receiver.bodies if b"secret" in body]


def test_a_pass_is_linked_to_the_requests_in_it(
    service: Callable[[str], Service], receiver: Receiver
) -> None:
    """To the two that are computed, and not to the one that is wrong."""
    frames = [traced(0, "It works."), traced(1, 5), traced(2, "a film")]
    handle(BatchWorker(service("bert")), *frames)
    [forward] = sent(receiver, "forward")
    requests = {span.trace: span for span in receiver.named("request")}
    assert forward.links == {requests[TRACES[0]].id, requests[TRACES[2]].id}
    assert forward.parent in forward.links
    assert forward.attributes["rows"] == 2
    wrong = requests[TRACES[1]]
    assert (wrong.attributes["http.response.status_code"], wrong.failed) == (422, False)


def test_a_request_that_is_not_sampled_has_no_span(
    service: Callable[[str], Service], receiver: Receiver
) -> None:
    frames = [traced(0, "It works.", flags="00"), traced(1, "a film")]
    handle(BatchWorker(service("bert")), *frames)
    assert {span.trace for span in sent(receiver)} == {TRACES[1]}
    [forward] = receiver.named("forward")
    assert forward.links == frozenset()


def test_the_wait_before_the_worker_is_a_span(
    service: Callable[[str], Service], receiver: Receiver
) -> None:
    started = f"t={time.time() - 2:.3f}"
    handle(BatchWorker(service("bert")), traced(0, "It works.", **{"X-Request-Start": started}))
    [queue] = sent(receiver, "queue")
    [request] = receiver.named("request")
    assert queue.parent == request.id
    assert queue.start == request.start
    assert 1.9e9 < queue.end - queue.start < 60e9
    [tokenize] = receiver.named("tokenize")
    assert queue.end <= tokenize.start


def test_writing_has_a_pass_for_each_prompt_and_token(
    written: Callable[[str], Written], receiver: Receiver
) -> None:
    worker = GenerationWorker(written("gpt2").service())
    assert sent(receiver) == []
    body = {"inputs": "cold soup", "parameters": {"max_new_tokens": 6}}
    run(worker, traced(0, body), traced(1, {**body, "stream": True}))
    requests = {span.trace: span for span in sent(receiver, "request")}
    passes = receiver.named("forward")
    assert {*requests} == {*TRACES[:2]}
    # Both prompts are read in one pass, and written in five that follow.
    assert len(passes) >= 6
    assert {span.links for span in passes[:6]} == {frozenset(each.id for each in requests.values())}
    assert [span.trace for span in receiver.named("encode")] == [TRACES[0]]


def test_an_explanation_has_passes_of_its_own(
    explained: Callable[[str], Path], receiver: Receiver
) -> None:
    worker = ExplanationWorker(Service(explained("bert"), CPU, "m"), deadline=60)
    run(worker, traced(0, "It works.", explain="True"))
    [request] = sent(receiver, "request")
    passes = receiver.named("forward")
    assert len(passes) > 2
    assert {span.parent for span in passes} == {request.id}


def test_nothing_is_imported_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in spans.ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(spans, "_current", None)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    spans.start("tiny")
    monkeypatch.setenv(spans.ENDPOINTS[0], "http://127.0.0.1:1")
    monkeypatch.setenv(spans.DISABLED, "true")
    spans.start("tiny")
    assert spans.current() is None


def test_missing_packages_are_told_and_requests_are_served(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(spans, "_current", None)
    monkeypatch.setenv(spans.ENDPOINTS[0], "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    spans.start("tiny")
    assert spans.current() is None
    assert "pip install torchscript-bundle[tracing]" in caplog.text
