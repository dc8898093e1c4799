"""The cost of a forward pass, as measured on this machine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch

#: Upper bound on the cost of a pass, in tokens: above any measured (a small model on a large GPU).
MOST_CALL = 4096.0
#: Upper bound of `CostModel.pair`.
MOST_PAIR = 0.05
#: If passes differ by less than this (root mean square, relative), tokens cost next to nothing; if
#: they differ more, and not by their tokens, something else ran.
FLAT = 0.2
#: A further term has to lower the sum of squared relative errors by more than this.
GAIN = 1e-6


class PassCosts(ABC):
    """The costs of forward passes, in tokens, and the rows that fit into one."""

    @abstractmethod
    def of(self, rows: int, length: int) -> float:
        """Return the cost of one pass over `rows` texts of `length` tokens."""

    def length(self, length: int) -> int:
        """Return the length at which a batch of this padded length runs."""
        return length

    def rows(self, length: int, most: int) -> int:
        """Return how many rows of a length fit into a pass, from 1 to `most`."""
        return most

    def step(self, rows: int, most: int) -> int:
        """Return how many of all `rows` the planner moves at a time, at most `most`."""
        return 1


@dataclass(frozen=True)
class Sample:
    """A timed forward pass over `rows` texts of `length` tokens, padding included."""

    rows: int
    length: int
    seconds: float


@dataclass(frozen=True)
class CostModel(PassCosts):
    """The time of a forward pass relative to that of one token.

    `call` is the cost of any pass: reading the weights, starting the operators; its default is that
    of BERT-base on a CPU. `pair` is what attention adds to a token for each token of its row.
    """

    call: float = 10.0
    pair: float = 0.0

    def of(self, rows: int, length: int) -> float:
        return self.call + rows * length * (1 + self.pair * length)

    @staticmethod
    def fit(samples: Sequence[Sample]) -> CostModel:
        """Fit the fewest terms by non-negative least squares of relative errors.

        Where all passes took about the same time, tokens cost next to nothing and `call` is at its
        bound; where times differ but not by tokens, return the default model.
        """
        # Terms: seconds of any pass, of a token, of a pair of tokens of one row.
        fits = [_solve(samples, terms) for terms in ((0,), (1,), (0, 1), (1, 2), (0, 1, 2))]
        best = reduce(lambda one, more: more if more.error < one.error - GAIN else one, fits)
        if best.token == 0:
            return CostModel(MOST_CALL) if best.error <= len(samples) * FLAT**2 else USUAL
        call, pair = best.call / best.token, best.pair / best.token
        return CostModel(min(call, MOST_CALL), min(pair, MOST_PAIR))


USUAL = CostModel()


@dataclass(frozen=True)
class _Fit:
    """Seconds of each term; `error` is the sum of squared relative errors."""

    call: float
    token: float
    pair: float
    error: float


def _solve(samples: Sequence[Sample], terms: Sequence[int]) -> _Fit:
    """Fit some of the terms, the others being 0; a negative one makes the error infinite."""
    rows = [[1, each.rows * each.length, each.rows * each.length**2] for each in samples]
    seconds = torch.tensor([each.seconds for each in samples], dtype=torch.float64)
    matrix = torch.tensor(rows, dtype=torch.float64)[:, list(terms)] / seconds[:, None]
    # Columns are scaled to size 1: pairs number thousands, passes one.
    scale = matrix.norm(dim=0)
    ones = torch.ones(len(samples), 1, dtype=torch.float64)
    solution = torch.linalg.lstsq(matrix / scale, ones, driver="gelsd").solution
    error = float((matrix / scale @ solution - ones).square().sum())
    found = torch.zeros(3, dtype=torch.float64)
    found[list(terms)] = solution[:, 0] / scale
    call, token, pair = found.tolist()
    return _Fit(call, token, pair, error if min(found.tolist()) >= 0 else float("inf"))
