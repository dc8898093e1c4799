"""Which requests of a call are computed, by a clock that the tests set."""

from __future__ import annotations

import pytest

from torchscript_bundle.serving import admission
from torchscript_bundle.serving.admission import Admission, Work
from torchscript_bundle.serving.engine.pace import Estimate
from torchscript_bundle.serving.errors import RequestError

CALL, BATCH, LONGEST = 4.0, 8, 60.0
#: Small is what takes at most this (seconds).
SHARE = CALL / BATCH


class Clock:
    """Stands for the module `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(admission, "time", clock)
    return clock


def work(seconds: float, rows: int = 64, least: float | None = None) -> Work:
    return Work(rows, Estimate(seconds, seconds if least is None else least))


def make() -> Admission:
    return Admission(CALL, BATCH, LONGEST)


def test_small_requests_share_passes_and_large_ones_follow_while_they_fit(clock: Clock) -> None:
    found = (
        make().open(5).admit({3: work(1.5), 0: work(SHARE), 2: work(2.0), 1: work(0.1), 4: work(1)})
    )
    assert found.groups == [[1, 0], [4], [3]]
    assert found.refused.keys() == {2}
    assert found.refused[2].status == 503
    assert found.refused[2].retry_after == CALL


def test_a_request_that_is_too_much_alone_is_told_how_many_texts_are_not(clock: Clock) -> None:
    found = make().open(1).admit({0: work(16.0)})
    assert found.groups == []
    assert found.refused[0].status == 413
    assert found.refused[0].retry_after is None
    assert "send at most 16 such texts" in found.refused[0].message


def test_one_text_is_always_computed(clock: Clock) -> None:
    found = make().open(2).admit({0: work(30.0, rows=1), 1: work(3.0)})
    assert found.groups == [[0], [1]]


def test_on_a_slow_machine_the_first_large_request_runs_until_the_deadline(clock: Clock) -> None:
    found = make().open(2).admit({0: work(9.0, least=3.0), 1: work(9.5, least=3.0)})
    assert found.groups == [[0]]
    assert found.refused[1].status == 503
    assert found.deadline == clock.now + 1.5 * 9.0


def test_a_call_never_takes_longer_than_a_worker_may(clock: Clock) -> None:
    found = make().open(1).admit({0: work(100.0, rows=1)})
    assert found.deadline == clock.now + LONGEST


def test_time_for_reading_is_not_there_for_large_requests(clock: Clock) -> None:
    room = make().open(3)
    with room.reading(100):
        clock.now += 2.0
    found = room.admit({0: work(1.0), 1: work(1.5)})
    assert found.groups == [[0]]


def test_reading_is_refused_once_it_has_taken_its_part(clock: Clock) -> None:
    slow = make()
    with slow.open(1).reading(1_000_000):
        clock.now += 2.0
    room = slow.open(3)
    with room.reading(1000):
        clock.now += 0.001
    with room.reading(1_000_000):
        clock.now += 2.0
    with pytest.raises(RequestError) as caught, room.reading(1_000_000):
        raise AssertionError("it was read")
    assert caught.value.status == 503


def test_in_full_calls_large_bodies_are_read_half_of_the_time(clock: Clock) -> None:
    slow = make()
    started, read = clock.now, 0.0
    with slow.open(1).reading(1_000_000):
        clock.now += 2.0
    while clock.now < started + 100:
        room = slow.open(BATCH)
        try:
            with room.reading(1_000_000):
                clock.now += 2.0
                read += 2.0
        except RequestError:
            clock.now += 0.01
        slow.close(room)
    assert read / (clock.now - started) == pytest.approx(0.5, abs=0.03)


def test_the_first_request_of_a_call_is_read_however_large(clock: Clock) -> None:
    slow = make()
    for _ in range(2):
        with slow.open(1).reading(1_000_000):
            clock.now += 3.0


def full_call(busy: Admission, clock: Clock, seconds: float) -> bool:
    """Whether a full call runs its large request, which takes so long."""
    room = busy.open(BATCH)
    found = room.admit({0: work(seconds), 1: work(0.1)})
    ran = [0] in found.groups
    assert [1] in found.groups
    clock.now += seconds if ran else 0.01
    busy.close(room)
    return ran


def test_in_full_calls_large_requests_run_half_of_the_time(clock: Clock) -> None:
    busy = make()
    started, ran = clock.now, 0.0
    while clock.now < started + 100:
        ran += 3.0 * full_call(busy, clock, 3.0)
    assert ran / (clock.now - started) == pytest.approx(0.5, abs=0.02)


def test_a_call_that_is_not_full_is_not_held_back(clock: Clock) -> None:
    busy = make()
    assert full_call(busy, clock, 3.0)
    assert busy.open(2).admit({0: work(3.0)}).groups == [[0]]


def test_workers_that_take_one_request_at_a_time_see_no_queue(clock: Clock) -> None:
    one = Admission(CALL, 1, LONGEST)
    for _ in range(3):
        room = one.open(1)
        assert room.admit({0: work(4.0)}).groups == [[0]]
        clock.now += 4.0
        one.close(room)
