"""The pace of forward passes on this machine at present, learned from those that ran."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

#: Cost of starting a pass, in tokens: that of BERT-base on a CPU.
START = 10
#: How much of the estimate a pass of `FULL_WEIGHT` tokens renews; smaller ones renew less. About
#: ten passes make it forget a machine that was busy with something else.
RENEWED, FULL_WEIGHT = 0.2, 1000

#: How often a pass is timed when a worker starts, unless that takes so many seconds.
TIMES, ENOUGH_SECONDS = 5, 0.5


@dataclass(frozen=True)
class Estimate:
    """How long rows take at the present pace, and at the best so far: on an idle machine."""

    seconds: float
    least_seconds: float


class Pace:
    """Estimates seconds from numbers of tokens.

    A token is taken to cost the same in rows of any length. So the first pass seen should be of the
    longest row, whose tokens cost most, since each attends to all others.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._best = float("inf")

    def saw(self, tokens: int, seconds: float) -> None:
        """Learn from a pass over so many tokens, padding included."""
        found = seconds / (START + tokens)
        weight = RENEWED * min(1.0, tokens / FULL_WEIGHT) if self._now else 1.0
        self._now += weight * (found - self._now)
        self._best = min(self._best, self._now)

    def seconds(self, lengths: Iterable[int]) -> float:
        """Return how long rows of these padded lengths take together, at the present pace."""
        return self.estimate(lengths).seconds

    def estimate(self, lengths: Iterable[int]) -> Estimate:
        """Return how long rows of these padded lengths take together."""
        units = START + sum(lengths)
        return Estimate(self._now * units, min(self._now, self._best) * units)

    def tokens(self, seconds: float) -> float:
        """Return how many tokens a pass of so many seconds takes in at the present pace."""
        return seconds / self._now - START if self._now else float("inf")


def fastest(timed: Callable[[], float]) -> float:
    """Return the shortest of several timings, the one least disturbed by other processes."""
    started = time.monotonic()
    least = timed()
    for _ in range(TIMES - 1):
        if time.monotonic() - started > ENOUGH_SECONDS:
            break
        least = min(least, timed())
    return least
