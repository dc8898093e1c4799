"""What a forward pass costs, as measured on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

#: More than the price of a pass was ever seen to be (a small model on a large GPU), in tokens.
MOST_CALL = 4096.0
#: The same for what a token costs more for each other token of its row.
MOST_PAIR = 0.05


class Costs(Protocol):
    """What passes cost, in tokens."""

    def of(self, rows: int, length: int) -> float:
        """The cost of one pass over `rows` texts of `length` tokens."""


@dataclass(frozen=True)
class Sample:
    """A forward pass that was timed.

    Attributes:
        rows: texts in it.
        length: tokens of each, padding included.
        seconds: what it took.
    """

    rows: int
    length: int
    seconds: float


@dataclass(frozen=True)
class CostModel:
    """The time of a forward pass over `rows` texts of `length` tokens, in that of one token.

    Attributes:
        call: what any pass costs: reading the weights, starting the operators. The default is what
            a BERT of usual size costs on a CPU.
        pair: what attention adds to a token for each token of its row.
    """

    call: float = 10.0
    pair: float = 0.0

    def of(self, rows: int, length: int) -> float:
        """The cost of one pass."""
        return self.call + rows * length * (1 + self.pair * length)

    @staticmethod
    def fit(samples: Sequence[Sample]) -> CostModel:
        """The model that is nearest to what was measured, by relative errors.

        What the samples cannot tell apart, or would make negative, is 0; where a token seems to
        cost nothing, the measurement is worthless and the default model is returned.

        Args:
            samples: some with equal length and other rows, some of other lengths.
        """
        lengths = {sample.length for sample in samples}
        for terms in (3, 2) if len(lengths) > 1 else (2,):
            call, token, pair = _solve(samples, terms)
            if token > 0 and call >= 0 and pair >= 0:
                return CostModel(min(call / token, MOST_CALL), min(pair / token, MOST_PAIR))
        return CostModel(0.0) if token > 0 else CostModel()


USUAL = CostModel()


def _solve(samples: Sequence[Sample], terms: int) -> tuple[float, float, float]:
    """Seconds of a pass, of a token and of a pair of tokens, by least squares of relative errors.

    Args:
        samples: what was timed.
        terms: how many of the three are looked for; the others are 0.
    """
    rows = [
        [1.0, float(each.rows * each.length), float(each.rows * each.length**2)] for each in samples
    ]
    seconds = torch.tensor([each.seconds for each in samples], dtype=torch.float64)
    matrix = torch.tensor(rows, dtype=torch.float64)[:, :terms] / seconds[:, None]
    # A column is brought to size 1: pairs are thousands, and passes one.
    scale = matrix.norm(dim=0)
    ones = torch.ones(len(samples), 1, dtype=torch.float64)
    found = torch.linalg.lstsq(matrix / scale, ones, driver="gelsd").solution[:, 0] / scale
    call, token, pair = [*found.tolist(), 0.0][:3]
    return call, token, pair
