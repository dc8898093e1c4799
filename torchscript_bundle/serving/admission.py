"""Admit the requests of a worker's call, so that none holds up its neighbours for long.

TorchServe gives a worker up to `batch_size` requests at a time and takes no answer before all are
ready. So the time of a call is bounded: requests that do not fit get a 503 at once, with the time
after which to send them again. A full call shows that more requests wait in TorchServe's queue:
then large requests run at most half of the time, so that the queue moves.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from torchscript_bundle.serving.engine.pace import Estimate
from torchscript_bundle.serving.errors import RequestError

#: A call ends after this multiple of its estimated time.
OVERRUN = 1.5
#: The shortest estimate (seconds): a hiccup of the machine is no overload.
LEAST_SECONDS = 2.0
#: The part of a call's time that reading its requests (parsing, tokenizing) may take.
READING = 0.25
#: Smaller bodies do not show how long reading a byte takes (bytes).
LEAST_SIZE = 4096
#: How much of the slowest reading is remembered after each later one.
DECAY = 0.9
BUSY = "the server is busy with other requests; send this one"
OVERDUE = (
    "the server is slower than usual and did not get through all texts in time; send the request"
)


@dataclass(frozen=True)
class Work:
    """The rows of one request, and their estimated time."""

    rows: int
    estimate: Estimate


@dataclass
class Admitted:
    """The decision about the requests of a call.

    `groups` has the keys of requests that share passes: all small ones first, then each large one
    alone. No pass begins after `deadline` (`time.monotonic`).
    """

    groups: list[list[int]] = field(default_factory=list)
    refused: dict[int, RequestError] = field(default_factory=dict)
    deadline: float = math.inf


class Admission:
    """Bounds the time of a worker's calls; always admits requests of one row.

    `call_seconds` bounds the passes of a call, and `longest` those that are slower than estimated;
    `batch_size` requests make a full call.
    """

    def __init__(self, call_seconds: float, batch_size: int, longest: float) -> None:
        self._call_seconds = call_seconds
        self._batch_size = batch_size
        self._longest = longest
        self._rested = 0.0
        #: The slowest recent reading of a body.
        self.seconds_per_byte = 0.0

    def open(self, requests: int) -> Room:
        """Begin a call with this number of requests."""
        now = time.monotonic()
        backlog = requests >= self._batch_size > 1
        seconds = 0.0 if backlog and now < self._rested else self._call_seconds
        return Room(self, now, seconds, self._call_seconds / self._batch_size)

    def close(self, room: Room) -> None:
        """End a call; in full calls, large requests pause for as long as those of this one took."""
        if room.large_from is not None:
            now = time.monotonic()
            self._rested = now + (now - room.large_from)

    def too_much(self, work: Work) -> RequestError | None:
        """Return the refusal of a request that alone exceeds a call's time; None if it fits."""
        if work.rows == 1 or work.estimate.least_seconds <= self._call_seconds:
            return None
        seconds = math.ceil(work.estimate.least_seconds)
        fitting = max(1, int(work.rows * self._call_seconds / work.estimate.least_seconds))
        return RequestError(
            413,
            f"its {work.rows} texts take about {seconds} s on this server, and one request "
            f"may take {self._call_seconds:g}; send at most {fitting} such texts at a time",
        )

    def deadline(self, started: float, admitted: float) -> float:
        """Return the deadline of a call from its start and its seconds of admitted work."""
        allowed = OVERRUN * max(self._call_seconds, admitted, LEAST_SECONDS)
        return started + min(allowed, self._longest)

    def has_read(self, size: int, seconds: float) -> None:
        """Learn from the reading of a body."""
        found = seconds / max(size, LEAST_SIZE)
        self.seconds_per_byte = max(found, DECAY * self.seconds_per_byte)

    def later(self, send: str = BUSY) -> RequestError:
        """Return a 503 that tells a client when to send a request again."""
        seconds = math.ceil(self._call_seconds)
        said = f"{send} again in {seconds} seconds, or fewer texts at a time"
        return RequestError(503, said, retry_after=seconds)


class Room:
    """The time of one call from `started`: `seconds` for requests of more than `small` seconds."""

    def __init__(self, admission: Admission, started: float, seconds: float, small: float) -> None:
        self._admission = admission
        self._started = started
        self._seconds = seconds
        self._small = small
        #: When reading or computing the first large request began.
        self.large_from: float | None = None

    @contextmanager
    def reading(self, size: int) -> Iterator[None]:
        """Time the reading (parsing, tokenizing) of a body of so many bytes.

        A body that exceeds the call's time for reading gets a 503, apart from one in each call
        while large requests need not pause.
        """
        started = time.monotonic()
        left = READING * max(self._seconds, self._small) - (started - self._started)
        if size * self._admission.seconds_per_byte > left:
            if self._seconds == 0 or self.large_from is not None:
                raise self._admission.later()
            self.large_from = started
        try:
            yield
        finally:
            self._admission.has_read(size, time.monotonic() - started)

    def admit(self, work: Mapping[int, Work]) -> Admitted:
        """Choose among the requests of the call, given by their keys, the smallest first."""
        admitted = Admitted()
        small: list[int] = []
        taken = reading = time.monotonic() - self._started
        for at in sorted(work, key=lambda key: work[key].estimate.seconds):
            each = work[at]
            refused = self._admission.too_much(each)
            if refused is not None:
                admitted.refused[at] = refused
            elif each.rows == 1 or each.estimate.seconds <= self._small:
                small.append(at)
            elif self._fits(each.estimate.seconds, taken, first=not admitted.groups):
                taken += each.estimate.seconds
                admitted.groups.append([at])
            else:
                admitted.refused[at] = self._admission.later()
        if admitted.groups and self.large_from is None:
            self.large_from = time.monotonic()
        admitted.groups[:0] = [small] if small else []
        total = taken - reading + sum(work[at].estimate.seconds for at in small)
        admitted.deadline = self._admission.deadline(self._started, total)
        return admitted

    def _fits(self, seconds: float, taken: float, *, first: bool) -> bool:
        """Return whether a large request fits into the rest of the time.

        The first one always fits where any may run: an idle machine has time for it, and the
        deadline holds in any case.
        """
        return self._seconds > 0 and (first or taken + seconds <= self._seconds)
