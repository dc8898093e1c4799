"""The pace of forward passes on this machine at present, learned from those that ran."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

#: Cost of starting a pass, in tokens: that of BERT-base on a CPU.
START = 10
#: The part of the estimate that a pass of `FULL_WEIGHT` tokens renews; smaller ones renew less.
#: About ten passes make it forget that the machine was busy.
RENEWED, FULL_WEIGHT = 0.2, 1000

#: How often a starting worker times a pass, and the seconds after which it stops.
TIMES, ENOUGH_SECONDS = 5, 0.5


@dataclass(frozen=True)
class Estimate:
    """The seconds of rows at the present pace, and at that of the fastest pass so far."""

    seconds: float
    least_seconds: float


class FadingMean:
    """A weighted mean of observations in which old ones fade; 0 before the first."""

    def __init__(self) -> None:
        self._sum = self._weight = 0.0

    def add(self, value: float, weight: float, *, keep: float) -> None:
        """Add an observation; the weights of earlier ones are multiplied by `keep`."""
        self._sum = keep * self._sum + weight * value
        self._weight = keep * self._weight + weight

    @property
    def value(self) -> float:
        """The mean."""
        return self._sum / self._weight if self._weight else 0.0


class Pace:
    """Estimates the seconds of a pass from its number of tokens, whatever the length of its rows.

    The first pass should have a row of the maximum length, whose tokens cost most.
    """

    def __init__(self) -> None:
        self._token_seconds = FadingMean()
        self._best = float("inf")

    def saw(self, tokens: int, seconds: float) -> None:
        """Learn from a pass over this number of tokens, padding included."""
        token_seconds = seconds / (START + tokens)
        is_first = self._best == float("inf")
        renewed = 1.0 if is_first else RENEWED * min(1.0, tokens / FULL_WEIGHT)
        self._token_seconds.add(token_seconds, renewed, keep=1 - renewed)
        # A single pass shows it, even a small one: a server that started on a busy machine would
        # else refuse large requests until many passes had corrected the mean.
        self._best = min(self._best, token_seconds)

    def seconds(self, lengths: Iterable[int]) -> float:
        """Return the seconds of a pass over rows of these padded lengths, at the present pace."""
        return self.estimate(lengths).seconds

    def estimate(self, lengths: Iterable[int]) -> Estimate:
        """Return the seconds of a pass over rows of these padded lengths."""
        units = START + sum(lengths)
        now = self._token_seconds.value
        return Estimate(now * units, min(now, self._best) * units)

    def tokens(self, seconds: float) -> float:
        """Return how many tokens fit in a pass of this duration, at the present pace."""
        token_seconds = self._token_seconds.value
        return seconds / token_seconds - START if token_seconds else float("inf")


def fastest(timed: Callable[[], float]) -> float:
    """Return the shortest of several timings: the one least disturbed by other processes."""
    started = time.monotonic()
    least = timed()
    for _ in range(TIMES - 1):
        if time.monotonic() - started > ENOUGH_SECONDS:
            break
        least = min(least, timed())
    return least
