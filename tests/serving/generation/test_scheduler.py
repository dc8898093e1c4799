"""Requests that share a batch in turns: the same answers as alone, in time, and errors apart."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.export.generation.helpers import MAX_LENGTH
from tests.serving.generation.helpers import Written, answer_all, ask, post
from tests.serving.helpers import change
from torchscript_bundle.serving.api.http import HttpResponse
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.engine.pace import FadingMean
from torchscript_bundle.serving.generation import request_queue
from torchscript_bundle.serving.generation.estimates import GenerationPace
from torchscript_bundle.serving.generation.generation_service import GenerationService

TEXTS = ("The film was long and the ending", "cold soup", "a", "It works as described", "Café", "x")
Writers = Callable[[str], Written]
NOT_FINITE = "what the model computed for this text is not finite"


def small(written: Writers, name: str, folder: Path, **config: Any) -> GenerationService:
    options = {"batch_size": 2, "max_batch_tokens": 4 * MAX_LENGTH, **config}
    return written(name).service(change(written(name).folder, folder, config=options))


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5"])
def test_answers_are_the_same_however_often_rows_change(
    written: Writers, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rows for six requests, and a turn is over after each token."""
    service = small(written, name, tmp_path / "small")
    monkeypatch.setattr(request_queue, "LONGEST_TURN", 0.0)
    monkeypatch.setattr(request_queue, "SHORTEST_TURN", 0.0)
    sampled = {"temperature": 1.5, "top_k": 50, "repetition_penalty": 1.2, "details": True}
    greedy = [
        post({"inputs": text, "parameters": {"max_new_tokens": 6 + 3 * at, "details": True}})
        for at, text in enumerate(TEXTS)
    ]
    drawn = [
        post({"inputs": text, "parameters": {"max_new_tokens": 9 + at, "seed": at, **sampled}})
        for at, text in enumerate(TEXTS)
    ]
    paused = []
    pause = service._scheduler._batch.pause
    monkeypatch.setattr(
        service._scheduler._batch, "pause", lambda answers: (paused.extend(answers), pause(answers))
    )
    together = [json.loads(each.body)[0] for each in answer_all(service, *greedy, *drawn)]
    assert len(paused) > 20
    for at, text in enumerate(TEXTS):
        tokens, spelled = written(name).greedy(text, 6 + 3 * at)
        assert [each["id"] for each in together[at]["details"]["tokens"]] == tokens
        assert together[at]["generated_text"] == spelled
    for request, found in zip(drawn, together[len(greedy) :], strict=True):
        [alone] = answer_all(service, request)
        expected = json.loads(alone.body)[0]["details"]["tokens"]
        assert [e["id"] for e in found["details"]["tokens"]] == [e["id"] for e in expected]


def test_short_request_does_not_wait_for_a_list(written: Writers, tmp_path: Path) -> None:
    service = small(written, "gpt2", tmp_path / "small")
    many = service.open(post({"inputs": [*TEXTS[:4]], "parameters": {"max_new_tokens": 60}}))
    for _ in range(3):
        service.step()
    short = service.open(post({"inputs": "cold soup", "parameters": {"max_new_tokens": 3}}))
    assert not isinstance(short, HttpResponse) and not isinstance(many, HttpResponse)
    steps = 0
    while not short.done:
        service.step()
        steps += 1
    assert steps == 3 and not many.done
    assert json.loads(service.finish(short).body) == [
        {"generated_text": written("gpt2").greedy("cold soup", 3)[1]}
    ]
    while not many.done:
        service.step()
    assert [each[0]["generated_text"] for each in json.loads(service.finish(many).body)] == [
        written("gpt2").greedy(text, 60)[1] for text in TEXTS[:4]
    ]


def minute(written: Writers, folder: Path) -> GenerationService:
    """A service whose requests have a minute."""
    artifact = change(written("gpt2").folder, folder, config={"response_timeout": 60})
    return written("gpt2").service(artifact)


def test_what_takes_too_long_is_told_so(written: Writers, tmp_path: Path) -> None:
    """A stream that has begun goes on."""
    service = minute(written, tmp_path / "minute")
    slow = {"inputs": "a", "parameters": {"max_new_tokens": 30}}
    late, stream = service.open(post(slow)), service.open(post({**slow, "stream": True}))
    assert not isinstance(late, HttpResponse) and not isinstance(stream, HttpResponse)
    service.step()
    for request in service._scheduler._queue.requests:
        request.deadline = 0.0
    service.step()
    response = service.finish(late)
    assert response.status == 503
    assert int(response.headers["Retry-After"]) >= 1
    said = json.loads(response.body)["error"]
    assert said.startswith("this was not done in time; a request has 60 s (response_timeout); send")
    while not stream.done:
        service.step()
    assert stream.response().status == 200
    late_stream = service.open(post({**slow, "stream": True}))
    assert not isinstance(late_stream, HttpResponse)
    service._scheduler._queue.requests[-1].deadline = 0.0
    service.step()
    assert b"was not done in time" in late_stream.events()


def a_token_a_second(service: GenerationService) -> None:
    pace = service._scheduler.pace = GenerationPace()
    for rows in (1, 8):
        pace.add_step(rows, 1.0)


def test_what_cannot_be_done_in_time_is_refused_at_once(written: Writers, tmp_path: Path) -> None:
    service = minute(written, tmp_path / "minute")
    a_token_a_second(service)
    long = {"inputs": "a", "parameters": {"max_new_tokens": 80}}
    opened = [service.open(post(long))]
    assert not isinstance(opened[0], HttpResponse), "an answer may end early"
    service.close(opened[0])
    service.step()
    service._scheduler.pace.add_answer(1, 1)  # those before went on to their ends
    response = service.open(post(long))
    assert isinstance(response, HttpResponse) and (response.status, response.headers) == (413, {})
    assert json.loads(response.body)["error"] == (
        "this takes 80 s or more; a request has 60 s (response_timeout); send fewer texts or a "
        "lower max_new_tokens"
    )
    fair = {"inputs": ["a"] * 4, "parameters": {"max_new_tokens": 36}}
    opened = [service.open(post(fair)) for _ in range(4)]
    assert not any(isinstance(each, HttpResponse) for each in opened[:3])
    last = opened[3]
    assert isinstance(last, HttpResponse) and last.status == 503
    # 16 rows of 36 tokens, eight at a time.
    assert int(last.headers["Retry-After"]) == 72 - 60
    assert (
        "this would take about 72 s beside what is being written" in json.loads(last.body)["error"]
    )
    short = service.open(post({"inputs": "a", "parameters": {"max_new_tokens": 2}}))
    assert not isinstance(short, HttpResponse), "a short one is done before the others are"
    # So it is where the others have prompts to read for far longer than a minute together.
    service._scheduler.pace._prompt_token = FadingMean()
    service._scheduler.pace.add_prompts(1, 0.01)
    for request in service._scheduler._queue.requests:
        for answer in request.answers:
            answer.prompt = [0] * 1500
    short = service.open(post({"inputs": "a", "parameters": {"max_new_tokens": 2}}))
    assert not isinstance(short, HttpResponse), "short prompts are read between long ones"
    again = service.open(post({"inputs": "a " * 30, "parameters": {"max_new_tokens": 2}}))
    assert isinstance(again, HttpResponse) and again.status == 503


def test_only_so_many_requests_are_open(written: Writers, tmp_path: Path) -> None:
    service = small(written, "gpt2", tmp_path / "small")
    opened = [service.open(post({"inputs": "a", "stream": True})) for _ in range(17)]
    assert not any(isinstance(each, HttpResponse) for each in opened[:16])
    refused = opened[16]
    assert isinstance(refused, HttpResponse)
    assert refused.status == 503
    assert int(refused.headers["Retry-After"]) >= 1
    chat = post({"prompt": "a", "model": "tiny"}, path="completions")
    refused = service.open(chat)
    assert isinstance(refused, HttpResponse) and refused.status == 503
    assert json.loads(refused.body)["error"]["type"] == "server_error"


@pytest.fixture(scope="module")
def poisoned(
    written: Writers, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., GenerationService]:
    """A service one of whose tokens ("z") has no numbers in its embedding."""

    def make(value: float, packed: bool) -> GenerationService:
        folder = tmp_path_factory.mktemp("poisoned")
        made = written("gpt2")
        module = torch.jit.load(str(made.folder / "traced_model.pt"))
        token = made.tokenizer("z")["input_ids"][-1]
        [weight] = [
            tensor
            for name, tensor in [*module.named_parameters(), *module.named_buffers()]
            if name.endswith("wte.weight")
        ]
        with torch.no_grad():
            weight[token] = value
        config = {"packed_weights": packed}
        return made.service(change(made.folder, folder / "made", module=module, config=config))

    return make


@pytest.mark.parametrize(("value", "packed"), [(math.nan, True), (math.inf, False), (3e38, True)])
def test_row_that_is_not_finite_fails_alone(
    poisoned: Callable[..., GenerationService],
    written: Writers,
    value: float,
    packed: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = poisoned(value, packed)
    new = {"max_new_tokens": 9}
    good = [post({"inputs": text, "parameters": new}) for text in TEXTS[:3]]
    bad = [
        post({"inputs": "a z", "parameters": {**new, "details": True, "temperature": 0.5}}),
        post({"inputs": "a z", "parameters": new, "stream": True}),
        post({"inputs": ["a", "a z"], "parameters": new}),
        post({"prompt": "a z", "max_tokens": 9}, path="completions"),
        post({"prompt": "a z", "max_tokens": 9, "stream": True}, path="completions"),
    ]
    for _ in range(2):  # rows that were left behind do no harm to those that come after them
        responses = answer_all(service, *good, *bad)
        for text, response in zip(TEXTS, responses[:3], strict=False):
            assert json.loads(response.body) == [
                {"generated_text": written("gpt2").greedy(text, 9)[1]}
            ]
        plain, stream, listed, whole, chunks = responses[3:]
        assert [plain.status, listed.status, whole.status] == [500, 500, 500]
        assert json.loads(plain.body)["error"].startswith(NOT_FINITE)
        assert json.loads(listed.body)["error"].startswith("item 1 of the list: " + NOT_FINITE)
        assert json.loads(whole.body)["error"]["type"] == "server_error"
        assert json.loads(whole.body)["error"]["message"].startswith(NOT_FINITE)
        assert json.loads(stream.body.decode().removeprefix("data:"))["error"].startswith(
            NOT_FINITE
        )
        assert NOT_FINITE.encode() in chunks.body and b"[DONE]" not in chunks.body
    assert "a z" not in caplog.text


def test_every_allowed_value_gives_an_answer_and_harms_no_other(written: Writers) -> None:
    service = written("gpt2").service()
    ends: list[dict[str, Any]] = [
        {"temperature": value} for value in (0, 5e-324, 1e-38, 9e-6, 1e-5, 100)
    ]
    ends += [{"top_p": value} for value in (0, 5e-324, 1e-38, 1)]
    ends += [{"repetition_penalty": value, "temperature": 1e-5} for value in (0.01, 100)]
    ends += [{"top_k": 1_000_000, "temperature": 1e-5, "top_p": 1e-38, "repetition_penalty": 0.01}]
    for at in range(0, len(ends), 6):
        some = [{"max_new_tokens": 5, "details": True, **each} for each in ends[at : at + 6]]
        good = post({"inputs": TEXTS[1], "parameters": {"max_new_tokens": 5}})
        *found, beside = answer_all(
            service, *(post({"inputs": "a", "parameters": each}) for each in some), good
        )
        assert [each.status for each in found] == [200] * len(some)
        assert (
            json.loads(beside.body)[0]["generated_text"] == written("gpt2").greedy(TEXTS[1], 5)[1]
        )
    best = written("gpt2").greedy("a", 5)[1]
    for nothing in ({"temperature": 0}, {"temperature": 1e-38}, {"top_p": 0}, {"do_sample": False}):
        status, value = ask(
            service,
            {"inputs": "a", "parameters": {"max_new_tokens": 5, "details": True, **nothing}},
        )
        assert (status, value[0]["generated_text"]) == (200, best)
        assert value[0]["details"]["seed"] is None, "nothing was drawn"


def test_wrong_settings_of_an_older_archive_say_nothing(
    written: Writers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = written("gpt2")
    wrong = {"do_sample": True, "temperature": 0.0, "top_k": -1, "top_p": 1.0}
    facts = Bundle.load(made.folder).mode_options
    options = {**facts, "defaults": {**wrong, "repetition_penalty": 0.0}}
    old = change(made.folder, tmp_path / "old", bundle={"mode_options": options})
    service = made.service(old)
    status, value = ask(service, {"inputs": "a", "parameters": {"max_new_tokens": 5}})
    assert (status, value) == (200, [{"generated_text": made.greedy("a", 5)[1]}])
    assert "repetition_penalty must be a number of at least 0.01" in caplog.text
    assert "top_k must be a whole number" in caplog.text
    assert "temperature must be" not in caplog.text


def test_error_in_telling_or_spelling_an_answer_is_that_answers_alone(
    written: Writers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service = written("gpt2").service()
    value = {"inputs": "a", "parameters": {"max_new_tokens": 5}, "stream": True}
    untold, misspelled, good = (service.open(post(value)) for _ in range(3))
    assert not isinstance(untold, HttpResponse) and not isinstance(misspelled, HttpResponse)

    def fails(*_: Any) -> Any:
        raise RuntimeError("a")

    monkeypatch.setattr(untold, "_piece", fails)
    monkeypatch.setattr(misspelled.answers[0]._spelling, "feed", fails)
    service.step()
    for each in (untold, misspelled):
        assert b"the server could not answer this request" in each.events()
        assert each.done
    assert not isinstance(good, HttpResponse)
    while not good.done:
        service.step()
    assert good.response().status == 200
