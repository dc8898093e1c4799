"""Medians and ratios of what was seen in rounds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence


def median(values: Iterable[float]) -> float:
    """Their median."""
    return statistics.median(values)


def ratio(ones: Sequence[float], others: Sequence[float]) -> float:
    """The median, over rounds, of one figure over another of the same round.

    What disturbed a round disturbed both.

    Raises:
        ValueError: not as many rounds of one as of the other.
    """
    return statistics.median(one / other for one, other in zip(ones, others, strict=True))


def percentile(values: Sequence[float], share: int) -> float:
    """The value that so many per cent of them are not above."""
    return sorted(values)[min(len(values) - 1, len(values) * share // 100)]
