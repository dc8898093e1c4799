"""How many tokens a pass may hold on this card, and what is done where that was too many."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Of free memory, how much passes may take: other workers, and fragments, need some.
SHARE = 0.8
#: What an operator says that got no memory. The TorchScript interpreter makes any error a
#: RuntimeError with the same words (torch/csrc/jit/runtime/interpreter.cpp, handleError).
SIGNS = ("CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


@dataclass
class TokenLimit:
    """Most tokens of a pass, padding included.

    Attributes:
        tokens: that number. A single row runs whatever it says.
    """

    tokens: int

    @staticmethod
    def of_memory(free: int, bytes_per_token: float) -> TokenLimit:
        """What fits into free memory (bytes)."""
        return TokenLimit(int(SHARE * free / max(bytes_per_token, 1.0)))

    def rows(self, length: int, most: int) -> int:
        """How many rows of a length fit, at most `most`, at least 1."""
        return max(1, min(most, self.tokens // length))

    def lower(self, tokens: int) -> None:
        """Keeps later passes below one that did not fit."""
        self.tokens = min(self.tokens, max(1, tokens // 2))
        logger.warning(
            "out of the card's memory with %d tokens in a pass; from now on at most %d",
            tokens,
            self.tokens,
        )


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that the card's memory was short."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return any(sign in str(error) for sign in SIGNS)


def run_in_halves(
    run: Callable[[Sequence[int]], T], rows: Sequence[int], short: Callable[[int], object]
) -> list[T]:
    """Runs rows together; where memory is short in halves, and those in halves, down to one row.

    Args:
        run: takes rows in one pass.
        rows: their indices.
        short: told how many rows were too many, before fewer are tried.

    Raises:
        RuntimeError: what `run` raises for other reasons, or for a single row.
    """
    try:
        return [run(rows)]
    except RuntimeError as error:
        if len(rows) == 1 or not is_out_of_memory(error):
            raise
    # Not in the except block: the error holds the frames, and those the tensors, of the pass.
    short(len(rows))
    half = (len(rows) + 1) // 2
    return [
        *run_in_halves(run, rows[:half], short),
        *run_in_halves(run, rows[half:], short),
    ]
