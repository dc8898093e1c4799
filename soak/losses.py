"""Attribute lost requests to the kills that cost them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from soak.archives import BATCH
from soak.client import Outcome
from torchscript_bundle.serving.artifact import MOST_EXPLANATIONS

#: A request that is sent so soon after a kill may be given to the dead, who is not missed yet.
MISSED_SECONDS = 0.1


@dataclass(frozen=True)
class Kill:
    """A process that was killed, between two moments."""

    what: Literal["worker", "java"]
    model: str
    began: float
    ended: float

    def may_cost(self, model: str, outcome: Outcome) -> bool:
        """Return whether a request was under way when the process died, or as good as that."""
        over = outcome.ended < self.began or outcome.sent > self.ended + MISSED_SECONDS
        return self.model == model and not over

    @property
    def most(self) -> float:
        """How many requests it may cost: a worker's batch; of Java all that it had."""
        return BATCH + MOST_EXPLANATIONS if self.what == "worker" else float("inf")


@dataclass
class Attribution:
    """Lost requests by the kill that cost them, and those that none explains."""

    by_kill: Counter[Kill] = field(default_factory=Counter)
    unexplained: list[tuple[str, Outcome]] = field(default_factory=list)


def attribute(losses: Sequence[tuple[str, Outcome]], kills: Sequence[Kill]) -> Attribution:
    """Give each lost request, with its model, to the first kill that may have cost it."""
    found = Attribution()
    for model, outcome in losses:
        for kill in kills:
            if kill.may_cost(model, outcome) and found.by_kill[kill] < kill.most:
                found.by_kill[kill] += 1
                break
        else:
            found.unexplained.append((model, outcome))
    return found
