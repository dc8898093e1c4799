"""Explanations that take turns, without a model."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from torchscript_bundle.serving.api.http import HttpResponse, json_response
from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.explanations.explainer import Explanation
from torchscript_bundle.serving.explanations.running import RunningExplanations


def explanation(
    name: str, passes: int, said: list[str], seconds: float = 1.0, steps: int = 50
) -> Explanation:
    """One that says its name at each pass."""

    def run(pause: Callable[[], None]) -> HttpResponse:
        for _ in range(passes):
            pause()
            said.append(name)
        return json_response(200, name)

    return Explanation(seconds, steps, run)


def take_all(running: RunningExplanations, names: str) -> dict[str, HttpResponse]:
    responses: dict[str, HttpResponse] = {}
    for _ in range(100):
        for name in set(names) - responses.keys():
            if (response := running.pop_done(name)) is not None:
                responses[name] = response
        running.take()
    assert not len(running)
    return responses


def test_they_compute_a_pass_each_in_turn_and_only_then() -> None:
    said: list[str] = []
    running = RunningExplanations(4, seconds=60, deadline=60)
    running.add("a", explanation("a", 3, said))
    running.add("b", explanation("b", 1, said))
    assert said == []
    responses = take_all(running, "ab")
    assert said == ["a", "b", "a", "a"]
    assert {name: each.body for name, each in responses.items()} == {"a": b'"a"', "b": b'"b"'}


def test_one_that_fails_has_its_own_error() -> None:
    def run(pause: Callable[[], None]) -> HttpResponse:
        raise RuntimeError("secret")

    said: list[str] = []
    running = RunningExplanations(4, seconds=60, deadline=60)
    running.add("a", Explanation(1.0, 50, run))
    running.add("b", explanation("b", 2, said))
    responses = take_all(running, "ab")
    assert responses["a"].status == 500
    assert b"secret" not in responses["a"].body
    assert responses["b"].status == 200


def test_one_that_takes_too_long_is_ended() -> None:
    running = RunningExplanations(4, seconds=60, deadline=1e-9)
    running.add("a", explanation("a", 50, [], seconds=0.0))
    response = take_all(running, "a")["a"]
    assert response.status == 503
    assert response.headers["Retry-After"] == "1"


def test_what_cannot_be_done_in_time_is_refused_before_it_begins() -> None:
    running = RunningExplanations(4, seconds=60, deadline=60)
    with pytest.raises(RequestError) as caught:
        running.add("a", explanation("a", 1, [], seconds=120.0, steps=50))
    assert caught.value.status == 413
    assert "n_steps of at most 25" in caught.value.message
    running.add("b", explanation("b", 1, [], seconds=40.0))
    with pytest.raises(RequestError) as caught:
        running.add("c", explanation("c", 1, [], seconds=30.0))
    assert (caught.value.status, caught.value.retry_after) == (503, 40)
    take_all(running, "b")
    running.add("c", explanation("c", 1, [], seconds=30.0))
    take_all(running, "c")


def test_there_are_only_so_many() -> None:
    running = RunningExplanations(2, seconds=60, deadline=60)
    for name in "ab":
        running.add(name, explanation(name, 1, []))
    with pytest.raises(RequestError) as caught:
        running.add("c", explanation("c", 1, []))
    assert caught.value.status == 503
    before = threading.active_count()
    take_all(running, "ab")
    assert threading.active_count() <= before


def test_one_that_nobody_waits_for_ends() -> None:
    said: list[str] = []
    running = RunningExplanations(4, seconds=60, deadline=60)
    running.add("a", explanation("a", 10, said))
    running.add("b", explanation("b", 2, said))
    for _ in range(4):
        running.take()
    running.forget("a")
    assert take_all(running, "b")["b"].status == 200
    assert said.count("a") <= 2
