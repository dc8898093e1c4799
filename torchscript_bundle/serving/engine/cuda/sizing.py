"""The tokens that fit into a pass on this card, and the retry where they do not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

logger = logging.getLogger(__name__)

R = TypeVar("R")
T = TypeVar("T")

#: The part of free memory for passes: other workers, and fragments, need some.
FRACTION = 0.8
#: Messages of an operator that got no memory. The TorchScript interpreter turns any error into a
#: RuntimeError with the same words (torch/csrc/jit/runtime/interpreter.cpp, handleError).
SIGNS = ("CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


@dataclass
class TokenLimit:
    """The most `tokens` of a pass, padding included. A single row always runs."""

    tokens: int

    @staticmethod
    def of_memory(free: int, bytes_per_token: float) -> TokenLimit:
        """Return the limit for this free memory (bytes)."""
        return TokenLimit(int(FRACTION * free / max(bytes_per_token, 1.0)))

    def rows(self, length: int, most: int) -> int:
        """Return how many rows of a length fit, from 1 to `most`."""
        return max(1, min(most, self.tokens // length))

    def lower(self, tokens: int) -> None:
        """Keep later passes below this number of tokens, which did not fit."""
        self.tokens = min(self.tokens, max(1, tokens // 2))
        logger.warning(
            "out of the card's memory with %d tokens in a pass; from now on at most %d",
            tokens,
            self.tokens,
        )


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether the card's memory was short."""
    return isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in SIGNS)


def run_in_halves(
    run: Callable[[Sequence[R]], T], rows: Sequence[R], too_many: Callable[[int], object]
) -> list[T]:
    """Run rows together; where memory is short, in halves, and those in halves, down to one row.

    Calls `too_many` with each number of rows that did not fit, before trying fewer.
    """
    try:
        return [run(rows)]
    except RuntimeError as error:
        if len(rows) == 1 or not is_out_of_memory(error):
            raise
    # Outside the except block: the error holds the frames, and so the tensors, of the pass.
    too_many(len(rows))
    half = (len(rows) + 1) // 2
    halves = rows[:half], rows[half:]
    return [each for part in halves for each in run_in_halves(run, part, too_many)]
