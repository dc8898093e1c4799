"""Requests whose deadline passes are not computed, and cost the others nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.helpers import close
from tests.serving.generation.helpers import Written
from tests.serving.generation.helpers import post as write
from tests.serving.helpers import CPU, post, read
from tests.serving.torchserve.helpers import receive
from tests.serving.torchserve.test_workers import asked, run
from torchscript_bundle.serving.api.http import HttpRequest, HttpResponse
from torchscript_bundle.serving.generation.generation_service import GenerationService
from torchscript_bundle.serving.observing.caller import OVERDUE, Caller
from torchscript_bundle.serving.service import Service
from torchscript_bundle.serving.torchserve.explanation_worker import ExplanationWorker

LISTED = ["It works.", "a film", "soup"]
WRITING = {"inputs": "cold soup", "parameters": {"max_new_tokens": 8}}
CHAT = {"messages": [{"role": "user", "content": "soup"}], "max_tokens": 8}


def stamp(seconds: float) -> str:
    """A deadline from now on."""
    return str(int(1000 * (time.time() + seconds)))


def until(request: HttpRequest, seconds: float) -> HttpRequest:
    return replace(request, caller=Caller(deadline=stamp(seconds)))


def test_late_texts_and_lists_are_not_computed(service: Callable[[str], Service]) -> None:
    bert = service("bert")
    before = bert.tokens
    late = [until(post("It works."), -1), until(post(LISTED), -1)]
    responses = bert.answer(late)
    assert [each.status for each in responses] == [504, 504]
    assert {read(each)["error"] for each in responses} == {OVERDUE}
    assert bert.tokens == before
    good = [until(post("It works."), 60), post(LISTED)]
    alone = [read(*bert.answer([each])) for each in good]
    first, _, _, last = bert.answer([good[0], *late, good[1]])
    assert close([read(first), read(last)], alone)


def test_a_deadline_may_pass_while_others_are_read(
    service: Callable[[str], Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    bert = service("bert")
    reading = bert._read

    def slow(*arguments: Any) -> Any:
        found = reading(*arguments)
        time.sleep(0.6)
        return found

    monkeypatch.setattr(bert, "_read", slow)
    late, good = bert.answer([until(post("It works."), 0.5), post("a film")])
    assert (late.status, read(late)) == (504, {"error": OVERDUE})
    assert good.status == 200


def test_an_explanation_ends_between_two_passes(explained: Callable[[str], Path]) -> None:
    worker = ExplanationWorker(Service(explained("bert"), CPU, "m"), deadline=60)
    explain = {"explain": "True"}
    late = asked("a", "It works.", **explain, **{"X-Request-Deadline": stamp(-1)})
    [(status, error)] = run(worker, late)["a"]
    assert (status, json.loads(error)["error"]) == (504, OVERDUE)
    begun = asked("b", "It works.", **explain, **{"X-Request-Deadline": stamp(0.5)})
    rows, context = receive("", begun)
    assert worker.handle(rows, context) == [b""]
    time.sleep(0.6)
    [(status, error)] = run(worker, begun)["b"]
    assert (status, json.loads(error)["error"], len(worker._turns)) == (504, OVERDUE, 0)


@pytest.fixture
def writer(written: Callable[[str], Written]) -> GenerationService:
    return written("gpt2").service()


@pytest.mark.parametrize("stream", [False, True])
def test_a_text_that_is_late_is_not_begun(writer: GenerationService, stream: bool) -> None:
    before = writer.counts()
    response = writer.open(until(write({**WRITING, "stream": stream}), -1))
    assert isinstance(response, HttpResponse)
    assert (response.status, read(response)["error"]) == (504, OVERDUE)
    assert writer.counts() == before


def test_openai_s_clients_get_it_in_their_form(writer: GenerationService) -> None:
    request = write({"prompt": "soup", "max_tokens": 8}, path="completions")
    response = writer.open(until(request, -1))
    assert isinstance(response, HttpResponse)
    assert (response.status, read(response)["error"]["message"]) == (504, OVERDUE)


def test_a_text_in_line_is_not_begun_once_it_is_late(writer: GenerationService) -> None:
    waiting = writer.open(until(write(WRITING), 0.3))
    assert not isinstance(waiting, HttpResponse)
    time.sleep(0.4)
    prompts = writer.counts()["prompts"]
    writer.step()
    response = writer.finish(waiting)
    assert (response.status, read(response)["error"]) == (504, OVERDUE)
    assert (writer.counts()["prompts"], writer.counts()["running"]) == (prompts, 0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_stream_that_has_begun_goes_on_and_an_answer_that_nobody_sees_does_not(
    writer: GenerationService, stream: bool
) -> None:
    begun = writer.open(until(write({**WRITING, "stream": stream}), 0.5))
    assert not isinstance(begun, HttpResponse)
    writer.step()
    time.sleep(0.6)
    while not begun.done:
        writer.step()
    if stream:
        assert begun.failure is None
        assert b'"finish_reason": "length"' in begun.events()
        assert len(begun.answers[0].pieces) == 8
    else:
        assert writer.finish(begun).status == 504
        assert writer.counts()["running"] == 0


def test_a_deadline_of_a_writer_that_is_malformed_is_told(writer: GenerationService) -> None:
    response = writer.open(replace(write(WRITING), caller=Caller(deadline="soon")))
    assert isinstance(response, HttpResponse)
    assert response.status == 400
