"""Which precision an artifact may be served in: what it changes, beside float32, in figures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torchscript_bundle.export.quality.comparison import Comparison

#: The least share of decisions that must be as in float32.
LEAST_KEPT = 0.995
#: How far scores may move, in the mean: probabilities, cosines, numbers relative to their size.
MEAN_CHANGE = 0.01
#: Most numbers of changed lines that are told.
MOST_TOLD = 20


@dataclass(frozen=True)
class Findings:
    """How a precision did.

    Attributes:
        precision: which.
        decisions: how many were compared.
        kept: how many of them were as in float32.
        mean_change: of the scores.
        largest_change: of a score.
        changed: numbers of the first lines with a decision that changed.
    """

    precision: str
    decisions: int
    kept: int
    mean_change: float
    largest_change: float
    changed: tuple[int, ...]

    @property
    def share_kept(self) -> float:
        """Of the decisions; 1 where there are none, as for regression."""
        return self.kept / self.decisions if self.decisions else 1.0

    @property
    def passed(self) -> bool:
        """Whether workers may compute so."""
        return self.share_kept >= LEAST_KEPT and self.mean_change <= MEAN_CHANGE

    def in_words(self) -> str:
        """The figures, and the lines whose answers changed; never a text."""
        kept = f"{self.kept} of {self.decisions} decisions as in float32 ({self.share_kept:.2%})"
        where = f"; changed on lines {', '.join(map(str, self.changed))}" if self.changed else ""
        moved = f"scores moved by {self.mean_change:.1e} in the mean"
        return f"{kept}, {moved}, {self.largest_change:.1e} at most{where}"

    def as_dict(self) -> dict[str, Any]:
        """The findings as `bundle.json` keeps them; JSON has no number for what is not finite."""
        figures = {**asdict(self), "share_kept": self.share_kept, "passed": self.passed}
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in figures.items()
        }


def judge(precision: str, compared: Iterable[tuple[int, Sequence[Comparison]]]) -> Findings:
    """Adds up what a precision changed.

    Args:
        precision: which.
        compared: for each line its number, and how each of its items compares.
    """
    decisions = kept = 0
    changes: list[float] = []
    changed: list[int] = []
    for number, items in compared:
        decisions += sum(item.decisions for item in items)
        kept += sum(item.kept for item in items)
        changes += [change for item in items for change in item.changes]
        if any(item.kept < item.decisions for item in items):
            changed.append(number)
    return Findings(
        precision,
        decisions,
        kept,
        mean_change=statistics.fmean(changes) if changes else 0.0,
        largest_change=max(changes, default=0.0),
        changed=tuple(changed[:MOST_TOLD]),
    )
