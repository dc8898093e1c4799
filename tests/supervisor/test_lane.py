"""Who gets the next turn at TorchServe, who waits, and who is told to come again."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

import pytest

from torchscript_bundle.supervisor import lane as lanes
from torchscript_bundle.supervisor.lane import Backend, Lane, RefusedError, Turn

OLD, NEW = Backend(0, "a key"), Backend(1, "a key")


def lane(capacity: int) -> Lane:
    made = Lane("reviews")
    made.open(OLD, capacity)
    return made


def run(steps: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(steps(), 20))  # type: ignore[arg-type]


async def begin(lane: Lane, *names: str, seconds: float = 10) -> dict[str, asyncio.Task[Turn]]:
    tasks = {}
    for name in names:
        tasks[name] = asyncio.create_task(lane.enter(name, seconds))
        await asyncio.sleep(0)
    return tasks


class Clock:
    """A time that stands still until it is put forward."""

    def __init__(self) -> None:
        self.now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(lanes.time, "monotonic", lambda: made.now)
    return made


async def answer_in_turn(lane: Lane, clock: Clock, count: int, *, seconds: float) -> None:
    """Requests, one after another, each of which takes so long."""
    for name in map(str, range(count)):
        await lane.enter(name, 10)
        clock.now += seconds
        lane.finish(name)


def test_no_more_than_the_capacity_run_and_the_others_follow_in_the_order_of_arrival() -> None:
    async def steps() -> None:
        one = lane(2)
        tasks = await begin(one, *"abcd")
        assert list(one.running) == ["a", "b"]
        assert one.waiting == 2
        one.finish("b")
        await tasks["c"]
        assert list(one.running) == ["a", "c"]
        one.finish("a")
        one.finish("c")
        await tasks["d"]
        assert (list(one.running), one.waiting) == (["d"], 0)

    run(steps)


def test_a_client_that_leaves_gives_up_its_place() -> None:
    async def steps() -> None:
        one = lane(1)
        tasks = await begin(one, *"abc")
        tasks["b"].cancel()
        await asyncio.sleep(0)
        assert one.waiting == 1
        one.finish("a")
        await tasks["c"]
        assert list(one.running) == ["c"]

    run(steps)


def test_a_client_that_leaves_as_its_turn_comes_passes_it_on() -> None:
    async def steps() -> None:
        one = lane(1)
        tasks = await begin(one, *"abc")
        one.finish("a")
        tasks["b"].cancel()
        await tasks["c"]
        assert list(one.running) == ["c"]

    run(steps)


def test_a_turn_goes_past_one_who_has_just_left() -> None:
    async def steps() -> None:
        one = lane(1)
        tasks = await begin(one, *"abc")
        tasks["b"].cancel()  # which it has not noticed yet
        one.finish("a")
        await tasks["c"]
        assert list(one.running) == ["c"]

    run(steps)


def test_a_request_that_finished_before_it_came_gets_no_turn() -> None:
    async def steps() -> None:
        one = lane(1)
        one.finish("a")
        with pytest.raises(RefusedError, match="has left"):
            await one.enter("a", 10)
        tasks = await begin(one, "b", "c", "d")
        one.finish("c")
        one.finish("b")
        await tasks["d"]
        assert list(one.running) == ["d"]
        tasks["c"].cancel()

    run(steps)


def test_where_many_give_up_the_latest_comes_first() -> None:
    async def steps() -> None:
        one = lane(1)
        left = await begin(one, "a", *map(str, range(20)))
        for name in map(str, range(10)):
            left[name].cancel()
        await asyncio.sleep(0)
        one.finish("a")
        await asyncio.sleep(0)
        assert list(one.running) == ["19"]
        for task in left.values():
            task.cancel()

    run(steps)


def test_one_that_gives_up_changes_no_order() -> None:
    async def steps() -> None:
        one = lane(1)
        tasks = await begin(one, *"abcd")
        tasks["b"].cancel()
        await asyncio.sleep(0)
        one.finish("a")
        await asyncio.sleep(0)
        assert list(one.running) == ["c"]
        tasks["d"].cancel()

    run(steps)


def test_a_wait_over_the_clients_patience_is_refused_with_the_time_to_come_again(
    clock: Clock,
) -> None:
    async def steps() -> None:
        one = lane(1)
        tasks = await begin(one, *map(str, range(10)))
        for name in range(4):  # two a second
            clock.now += 0.5
            one.finish(str(name))
            await asyncio.sleep(0)
        assert one.throughput == pytest.approx(2)
        assert one.expected_wait == pytest.approx((5 + 1 + 1) / 2)
        with pytest.raises(RefusedError, match="5 requests wait for reviews") as refused:
            await one.enter("hurried", 1.0)
        assert (refused.value.reason, refused.value.retry_after) == ("overload", 3)
        patient = (await begin(one, "patient", seconds=4))["patient"]
        assert one.waiting == 6
        for task in (*tasks.values(), patient):
            task.cancel()

    run(steps)


def test_none_gets_a_turn_beside_so_many_that_it_would_be_late(clock: Clock) -> None:
    async def steps() -> None:
        one = lane(10)
        await answer_in_turn(one, clock, 9, seconds=0.25)
        tasks = await begin(one, *"abcd", seconds=0.8)
        assert list(one.running) == ["a", "b", "c"]
        with pytest.raises(RefusedError, match="0 requests wait"):
            await tasks["d"]
        tasks |= await begin(one, "e", seconds=10)
        assert list(one.running) == ["a", "b", "c", "e"]
        clock.now += 0.25
        one.finish("a")
        assert one.throughput == pytest.approx(4)

    run(steps)


def test_an_idle_server_tries_one_whatever_was_expected(clock: Clock) -> None:
    async def steps() -> None:
        one = lane(4)
        await answer_in_turn(one, clock, 2, seconds=5)
        await one.enter("hurried", 0.5)
        with pytest.raises(RefusedError):
            await one.enter("beside it", 0.5)

    run(steps)


def test_those_who_are_refused_are_told_when_all_of_them_could_be_served(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "HELD_SECONDS", 0.0)

    async def steps() -> None:
        one = lane(1)
        await answer_in_turn(one, clock, 9, seconds=0.1)
        await one.enter("running", 10)
        told = []
        for client in range(200):
            clock.now += 0.001
            with pytest.raises(RefusedError) as refused:
                await one.enter(f"client {client}", 0.1)
            told.append(refused.value.retry_after)
        assert told[0] == 1
        assert told[-1] == math.ceil(200 / one.throughput)

    run(steps)


def test_a_turn_that_does_not_come_in_time_is_refused() -> None:
    async def steps() -> None:
        one = lane(1)
        await begin(one, "a")
        with pytest.raises(RefusedError, match=r"within 0.05 s") as refused:
            await one.enter("b", 0.05)
        assert refused.value.reason == "deadline"
        assert one.waiting == 0

    run(steps)


def test_more_than_a_thousand_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "MOST_WAITING", 3)

    async def steps() -> None:
        one = lane(1)
        tasks = await begin(one, *"abcd")
        with pytest.raises(RefusedError, match="3 requests wait"):
            await one.enter("e", 10)
        for task in tasks.values():
            task.cancel()

    run(steps)


def test_a_new_backend_takes_all_new_turns_and_the_old_one_keeps_its_own() -> None:
    async def steps() -> None:
        one = lane(1)
        tasks = await begin(one, *"abc")
        one.open(NEW, 1)
        assert (await tasks["b"]).backend is NEW
        assert (one.running_on(OLD), one.running_on(NEW), one.waiting) == (1, 1, 1)
        one.finish("a")
        await asyncio.sleep(0)
        assert (one.running_on(OLD), one.running_on(NEW), one.waiting) == (0, 1, 1)
        tasks["c"].cancel()

    run(steps)


def test_while_nothing_serves_requests_wait() -> None:
    async def steps() -> None:
        one = lane(1)
        one.close()
        tasks = await begin(one, "a")
        assert one.waiting == 1
        one.open(NEW, 1)
        assert (await tasks["a"]).backend is NEW

    run(steps)


def test_a_turn_whose_end_was_never_reported_is_forgotten_long_after_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def steps() -> None:
        one = lane(1)
        tasks = await begin(one, "a", "b", seconds=10)
        assert one.forget() == 0
        turn = await tasks["a"]
        turn.deadline -= 10 + lanes.FORGOTTEN_SECONDS
        assert one.forget() == 1
        await tasks["b"]
        assert list(one.running) == ["b"]

    run(steps)
