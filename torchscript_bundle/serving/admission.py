"""Which requests of a worker's call are computed, so that none holds its neighbours for long.

TorchServe hands a worker up to `batch_size` requests at a time and takes nothing back before all of
them are answered. So the time that a call may take is bounded here: what does not fit is refused at
once, and says when to come again.

A call as large as it can be shows that more requests wait in TorchServe's queue, unseen. Large
requests then run at most half of the time, so that the queue moves while they come in numbers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from torchscript_bundle.serving.errors import RequestError

#: A call that takes longer than it was estimated to is ended at so many times the estimate.
OVERRUN = 1.5
#: The same for estimates of less than this (seconds): a hiccup of the machine is no overload.
LEAST_SECONDS = 2.0
#: The part of a call's time that reading its requests (parsing, tokenizing) may take.
READING = 0.25
#: Smaller bodies say nothing of what reading a byte takes (bytes).
LEAST_SIZE = 4096
#: What is left of the slowest reading after each later one.
FORGOTTEN = 0.9


@dataclass(frozen=True)
class Work:
    """What one request asks of the model.

    Attributes:
        rows: how many rows it has.
        seconds: what they take at the present pace of this machine.
        least_seconds: what they take on this machine when it does nothing else.
    """

    rows: int
    seconds: float
    least_seconds: float


@dataclass
class Admitted:
    """What became of the requests of a call.

    Attributes:
        groups: the requests to compute, by their keys, in order. Those of one group share passes;
            small requests are the first group, and each large one is a group.
        refused: the others.
        deadline: `time.monotonic()` after which no further pass is begun.
    """

    groups: list[list[int]] = field(default_factory=list)
    refused: dict[int, RequestError] = field(default_factory=dict)
    deadline: float = math.inf


class Admission:
    """Bounds what calls of a worker take.

    Args:
        call_seconds: most seconds of passes in a call. Requests of one row are always admitted.
        batch_size: requests of a full call.
        longest: most seconds that a call may take if passes are slower than estimated.
    """

    def __init__(self, call_seconds: float, batch_size: int, longest: float) -> None:
        self._call_seconds = call_seconds
        self._batch_size = batch_size
        self._longest = longest
        self._rested = 0.0
        self._seconds_per_byte = 0.0

    def open(self, requests: int) -> Room:
        """Begin a call of so many requests."""
        now = time.monotonic()
        backlog = requests >= self._batch_size > 1
        seconds = 0.0 if backlog and now < self._rested else self._call_seconds
        return Room(self, now, seconds, self._call_seconds / self._batch_size)

    def close(self, room: Room) -> None:
        """End a call: large requests of full calls pause for as long as those of this one took."""
        if room.large_from is not None:
            now = time.monotonic()
            self._rested = now + (now - room.large_from)

    def too_much(self, work: Work) -> RequestError | None:
        """Return why a request alone is more than a call may take; None where it is not."""
        if work.rows == 1 or work.least_seconds <= self._call_seconds:
            return None
        fitting = max(1, int(work.rows * self._call_seconds / work.least_seconds))
        return RequestError(
            413,
            f"its {work.rows} texts take about {math.ceil(work.least_seconds)} s on this server, "
            f"and one request may take {self._call_seconds:g}; send at most {fitting} such texts "
            "at a time",
        )

    def deadline(self, started: float, admitted: float) -> float:
        """Return when a call that began at `started` with so many seconds of work is ended."""
        allowed = OVERRUN * max(self._call_seconds, admitted, LEAST_SECONDS)
        return started + min(allowed, self._longest)

    def reading_seconds(self, size: int) -> float:
        """Return what reading a body of so many bytes took lately, at the most."""
        return size * self._seconds_per_byte

    def has_read(self, size: int, seconds: float) -> None:
        """Learn from a body that was read."""
        found = seconds / max(size, LEAST_SIZE)
        self._seconds_per_byte = max(found, FORGOTTEN * self._seconds_per_byte)

    @property
    def retry_after(self) -> int:
        """Seconds after which a refused request is sent again."""
        return math.ceil(self._call_seconds)


class Room:
    """The time of one call.

    Args:
        admission: bounds it.
        started: `time.monotonic()` when it began.
        seconds: for large requests.
        share: what a request may take and still count as small (seconds).

    Attributes:
        large_from: when the first large request was begun, be it to read or to compute; None where
            there was none.
    """

    def __init__(self, admission: Admission, started: float, seconds: float, share: float) -> None:
        self._admission = admission
        self._started = started
        self._seconds = seconds
        self._share = share
        self.large_from: float | None = None

    @contextmanager
    def reading(self, size: int) -> Iterator[None]:
        """Read a request: parse and tokenize it.

        Args:
            size: of its body (bytes).

        Raises:
            RequestError: 503 where reading would take more than its part of the call. One such
                body is read in a call, unless large requests have to pause.
        """
        started = time.monotonic()
        left = READING * max(self._seconds, self._share) - (started - self._started)
        if self._admission.reading_seconds(size) > left:
            if self._seconds == 0 or self.large_from is not None:
                raise busy(self._admission.retry_after)
            self.large_from = started
        try:
            yield
        finally:
            self._admission.has_read(size, time.monotonic() - started)

    def admit(self, work: Mapping[int, Work]) -> Admitted:
        """Choose among the requests of the call, the smallest first.

        Args:
            work: what each asks, by the key that stands for it in the answer.
        """
        admitted = Admitted()
        small: list[int] = []
        taken = reading = time.monotonic() - self._started
        for at in sorted(work, key=lambda key: work[key].seconds):
            each = work[at]
            refused = self._admission.too_much(each)
            if refused is not None:
                admitted.refused[at] = refused
            elif each.rows == 1 or each.seconds <= self._share:
                small.append(at)
            elif self._fits(each.seconds, taken, first=not admitted.groups):
                taken += each.seconds
                admitted.groups.append([at])
            else:
                admitted.refused[at] = busy(self._admission.retry_after)
        if admitted.groups and self.large_from is None:
            self.large_from = time.monotonic()
        admitted.groups[:0] = [small] if small else []
        total = taken - reading + sum(work[at].seconds for at in small)
        admitted.deadline = self._admission.deadline(self._started, total)
        return admitted

    def _fits(self, seconds: float, taken: float, *, first: bool) -> bool:
        """Whether a large request fits into what the call has left.

        The first one does where any may run: it was small enough for this machine when that had
        nothing else to do, and the deadline holds in any case.
        """
        return self._seconds > 0 and (first or taken + seconds <= self._seconds)


def busy(retry_after: int) -> RequestError:
    """Return the refusal of a request that the server could serve at another time."""
    return RequestError(
        503,
        f"the server is busy with other requests; send this one again in {retry_after} seconds, "
        "or fewer texts at a time",
        retry_after=retry_after,
    )


def overdue(retry_after: int) -> RequestError:
    """Return the refusal of a request whose passes took longer than a call may."""
    return RequestError(
        503,
        "the server is slower than usual and did not get through all texts in time; send the "
        f"request again in {retry_after} seconds, or fewer texts at a time",
        retry_after=retry_after,
    )
