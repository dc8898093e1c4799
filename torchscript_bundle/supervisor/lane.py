"""The requests of one model: few at a time go to TorchServe, the others wait for their turn.

TorchServe computes what it was once given, even where the client has left, and its queue has no
order but that of arrival. So it gets no more than keeps its workers busy, and the queue is here: a
client that leaves gives up its place, and who would wait too long is told so at once.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from dataclasses import dataclass

#: Batches that each worker may have: one that it computes, one that waits for it.
BATCHES = 2
#: Most requests that wait for one model, each with an open connection.
MOST_WAITING = 1000
#: The throughput is that of the last requests: of so many busy seconds, but at least so many.
RATE_SECONDS, LEAST_FINISHED = 5.0, 8
#: More refusals a second than this are not given at once, but after so many seconds: clients that
#: come again at once would take the cores from those that are served.
MANY_REFUSALS, HELD_SECONDS = 50, 1.0
#: The longest time to come again that a refusal tells (seconds).
LONGEST_RETRY = 60.0
#: Weight of the latest request in the share of those that gave up, and the share from which on the
#: latest is served first.
LATEST, MANY = 0.05, 0.2
#: How many of the requests that finished without a turn are remembered.
MOST_OVER = 10_000
#: Seconds after its deadline when a request that was never reported as finished is given up.
FORGOTTEN_SECONDS = 120.0


class RefusedError(Exception):
    """A request that is not given to TorchServe, and why."""

    def __init__(self, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = None if retry_after is None else max(1, math.ceil(retry_after))


@dataclass(frozen=True)
class Backend:
    """One TorchServe: its place in nginx's config, and the key that it takes."""

    slot: int
    key: str


@dataclass
class Turn:
    """A request of a lane: its deadline (`time.monotonic`), and who computes it."""

    deadline: float
    backend: Backend | None = None


class _Refusals:
    """How often requests are refused, and when they had better come again.

    If each client comes again after the time that it was told, those who were refused within that
    time are as many as there are clients: the time in which that many are served is the right one.
    """

    def __init__(self) -> None:
        self._times: deque[float] = deque()
        self._retry = 1.0

    def add(self, throughput: float) -> float:
        """Count a refusal; return the seconds after which it should come again."""
        now = time.monotonic()
        self._times.append(now)
        while self._times[0] < now - self._retry:
            self._times.popleft()
        wanted = len(self._times) / throughput if throughput else 1.0
        self._retry = min(max(1.0, wanted), LONGEST_RETRY)
        return self._retry

    @property
    def are_many(self) -> bool:
        """Whether there were more than `MANY_REFUSALS` in the last second."""
        times = self._times
        return len(times) > MANY_REFUSALS and times[-1 - MANY_REFUSALS] >= times[-1] - 1.0


class Lane:
    """Gives turns to the requests of one model, `capacity` of them at a time.

    They come in the order of arrival. Where many clients give up waiting, the latest comes first:
    whoever has waited for long is about to leave, and would be computed for nobody. For the same
    reason none gets a turn beside so many others that it would be late: by Little's law it is
    answered after as many seconds as it has neighbours, itself included, over the throughput.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self.capacity = 0
        #: What new turns are given to.
        self.backend: Backend | None = None
        self.running: dict[str, Turn] = {}
        self._waiting: dict[str, tuple[Turn, asyncio.Future[None]]] = {}
        #: Busy seconds of the lane at each of the last finishes, the latest last.
        self._finished: deque[float] = deque()
        self._busy_before, self._busy_since = 0.0, 0.0
        self._refusals = _Refusals()
        #: Requests that finished without a turn, the latest last.
        self._over: dict[str, None] = {}
        self._gave_up = 0.0
        #: When a request finished last, or the lane had nothing to do.
        self.moved = time.monotonic()

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def open(self, backend: Backend, capacity: int) -> None:
        """Give new turns to this backend."""
        self.backend, self.capacity = backend, capacity
        self._next()

    def close(self) -> None:
        """Give no more turns; those that wait go on waiting."""
        self.backend = None

    def running_on(self, backend: Backend) -> int:
        """Return how many requests a backend has."""
        return sum(turn.backend is backend for turn in self.running.values())

    async def enter(self, name: str, seconds: float) -> Turn:
        """Wait for a turn, at most so many seconds; RefusedError if it cannot come in time."""
        if name in self._over:
            raise RefusedError("gone", "its client has left")
        turn = Turn(time.monotonic() + seconds)
        if self._free and not self._waiting and turn.deadline >= self._soonest:
            return self._begin(name, turn)
        expected = self.expected_wait
        if self.waiting >= MOST_WAITING or expected > seconds:
            retry = self._refusals.add(self.throughput)
            if self._refusals.are_many:
                await asyncio.sleep(min(HELD_SECONDS, seconds))
            raise RefusedError(
                "overload",
                f"{self.waiting} requests wait for {self.model}, which takes about "
                f"{max(1, math.ceil(expected))} s; send this one again later",
                max(retry, expected - seconds),
            )
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[name] = (turn, future)
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            self._leave(name)
            raise RefusedError(
                "deadline",
                f"its turn did not come within {seconds:g} s; send it again later",
                self.expected_wait,
            ) from None
        except asyncio.CancelledError:
            self._leave(name)
            raise
        return turn

    @property
    def expected_wait(self) -> float:
        """Seconds until one more request would be answered, as the last ones were."""
        throughput = self.throughput
        return (self.waiting + len(self.running) + 1) / throughput if throughput else 0.0

    @property
    def throughput(self) -> float:
        """Requests that finish a second while there are any, by the last ones; 0 if unknown."""
        if len(self._finished) < 2:
            return 0.0
        return (len(self._finished) - 1) / max(self._busy - self._finished[0], 1e-6)

    @property
    def _busy(self) -> float:
        """Seconds for which this lane has had a request running."""
        return self._busy_before + (time.monotonic() - self._busy_since if self.running else 0.0)

    @property
    def _soonest(self) -> float:
        """When a request would be answered beside those that run, if its turn came now.

        An idle server tries one whatever is expected, or its throughput would never be known.
        """
        throughput = self.throughput
        if not self.running or not throughput:
            return -math.inf
        return time.monotonic() + (len(self.running) + 1) / throughput

    def finish(self, name: str) -> Turn | None:
        """End the turn of a request, or its wait; return its turn if it had one.

        On a busy machine a client may have left before its request is read here: what has finished
        gets no turn any more.
        """
        turn = self._end(name)
        if turn is None:
            self._over[name] = None
            if len(self._over) > MOST_OVER:
                del self._over[next(iter(self._over))]
            return None
        self.moved = time.monotonic()
        self._finished.append(self._busy)
        oldest = self._busy - RATE_SECONDS
        while len(self._finished) > LEAST_FINISHED and self._finished[0] < oldest:
            self._finished.popleft()
        self._next()
        return turn

    def forget(self) -> int:
        """End turns whose end was never reported; return how many."""
        now = time.monotonic()
        lost = [
            name for name, turn in self.running.items() if now > turn.deadline + FORGOTTEN_SECONDS
        ]
        for name in lost:
            self._end(name)
        if lost:
            self._next()
        return len(lost)

    @property
    def _free(self) -> bool:
        return self.backend is not None and self.running_on(self.backend) < self.capacity

    def _begin(self, name: str, turn: Turn) -> Turn:
        if not self.running:
            self.moved = self._busy_since = time.monotonic()
        turn.backend = self.backend
        self.running[name] = turn
        return turn

    def _end(self, name: str) -> Turn | None:
        """Take a request from those that run, if it is one of them."""
        self._busy_before, self._busy_since = self._busy, time.monotonic()
        return self.running.pop(name, None)

    def _next(self) -> None:
        while self._free and (name := self._choose()) is not None:
            turn, future = self._waiting.pop(name)
            if future.done() or name in self._over:  # its client has just left
                self._gave_up += LATEST * (1 - self._gave_up)
                continue
            self._gave_up *= 1 - LATEST
            self._begin(name, turn)
            future.set_result(None)

    def _choose(self) -> str | None:
        """Return whose turn it is; None if nobody waits who would be answered in time."""
        latest_first = self._gave_up > MANY
        order = reversed(self._waiting) if latest_first else iter(self._waiting)
        soonest = self._soonest
        return next((name for name in order if self._waiting[name][0].deadline >= soonest), None)

    def _leave(self, name: str) -> None:
        """Take back a place in the queue, or a turn that came as its client left."""
        if self._waiting.pop(name, None) is not None:
            self._gave_up += LATEST * (1 - self._gave_up)
        else:
            self._end(name)
            self._next()
