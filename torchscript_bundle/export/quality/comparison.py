"""What a mode says of two computations of the same item: which decisions stayed, how scores moved.

A decision is what an answer is chosen by: the best label of a text or of a token, the order of two
passages. A score is what is told beside it, a probability where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RowOutputs:
    """One row (a text, or a window of it) and what was computed for it.

    Attributes:
        outputs: as the mode's serving code gets them: without padding, in float32, on the CPU.
        special: bool `[length]`, the tokens that the tokenizer added.
    """

    outputs: tuple[Tensor, ...]
    special: Tensor


#: The rows of one item of a request, in order.
Item = Sequence[RowOutputs]


@dataclass(frozen=True)
class Comparison:
    """How an item at a lower precision differs from the same in float32.

    Attributes:
        decisions: how many there are.
        kept: how many of them are the same.
        changes: by how much scores moved, the largest for each decision.
    """

    decisions: int
    kept: int
    changes: tuple[float, ...]


def compare_choices(expected: Tensor, actual: Tensor) -> Comparison:
    """Choices by the largest logit: each is a decision, and its probabilities are the scores.

    Args:
        expected: float `[choices, classes]`.
        actual: the same at the lower precision.
    """
    same = expected.argmax(-1) == actual.argmax(-1)
    moved = (expected.softmax(-1) - actual.softmax(-1)).abs().amax(-1)
    return Comparison(len(same), int(same.sum()), tuple(moved.tolist()))


def compare_thresholds(expected: Tensor, actual: Tensor) -> Comparison:
    """One decision: which logits `[classes]` are over 0. Their sigmoids are the scores."""
    same = torch.equal(expected > 0, actual > 0)
    moved = (expected.sigmoid() - actual.sigmoid()).abs().max()
    return Comparison(1, int(same), (float(moved),))


def compare_numbers(expected: Tensor, actual: Tensor) -> Comparison:
    """Numbers that no label is chosen by: by how much they moved, of their size where over 1."""
    moved = (expected - actual).abs() / expected.abs().clamp(min=1.0)
    return Comparison(0, 0, (float(moved.max()),))


def compare_order(expected: Tensor, actual: Tensor) -> Comparison:
    """The order of logits `[candidates]`: each pair is a decision. Sigmoids are the scores."""
    first, second = torch.triu_indices(len(expected), len(expected), offset=1)
    same = (expected[first] < expected[second]) == (actual[first] < actual[second])
    moved = (expected.sigmoid() - actual.sigmoid()).abs()
    return Comparison(len(same), int(same.sum()), tuple(moved.tolist()))


#: How logits `[classes]` of one text are compared, by the model's `problem_type`.
BY_PROBLEM: dict[str, Callable[[Tensor, Tensor], Comparison]] = {
    "single_label_classification": lambda expected, actual: compare_choices(
        expected[None], actual[None]
    ),
    "multi_label_classification": compare_thresholds,
    "regression": compare_numbers,
}
