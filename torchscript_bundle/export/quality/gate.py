"""Decide whether a precision changes the answers of an artifact too much to be served."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torchscript_bundle.export.quality.decisions import Comparison

#: Least fraction of decisions that are as in float32.
LEAST_KEPT = 0.995
#: Largest mean change of scores: probabilities, cosines, numbers relative to their size.
MEAN_CHANGE = 0.01
#: Most changed lines that are named.
MOST_TOLD = 20


@dataclass(frozen=True)
class Findings:
    """The figures of a trial: decisions kept as in float32, changes of scores, changed lines."""

    precision: str
    decisions: int
    kept: int
    mean_change: float
    largest_change: float
    changed: tuple[int, ...]

    @property
    def share_kept(self) -> float:
        """The fraction of decisions that were kept; 1 without decisions, as for regression."""
        return self.kept / self.decisions if self.decisions else 1.0

    @property
    def passed(self) -> bool:
        """Whether workers may compute in this precision."""
        return self.share_kept >= LEAST_KEPT and self.mean_change <= MEAN_CHANGE

    def in_words(self) -> str:
        """Return the figures and the numbers of changed lines in a sentence, without any text."""
        kept = f"{self.kept} of {self.decisions} decisions as in float32 ({self.share_kept:.2%})"
        where = f"; changed on lines {', '.join(map(str, self.changed))}" if self.changed else ""
        moved = f"scores moved by {self.mean_change:.1e} in the mean"
        return f"{kept}, {moved}, {self.largest_change:.1e} at most{where}"

    def as_dict(self) -> dict[str, Any]:
        """Return the findings for `bundle.json`; null for numbers that are not finite."""
        figures = {**asdict(self), "share_kept": self.share_kept, "passed": self.passed}
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in figures.items()
        }


def judge(precision: str, compared: Iterable[tuple[int, Sequence[Comparison]]]) -> Findings:
    """Add up what a precision changed, given the number of each line and its compared items."""
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
