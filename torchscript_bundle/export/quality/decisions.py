"""Compare two computations of an item: which decisions stayed, how much scores moved.

A decision chooses the answer: the best label of a text or of a token, the order of two passages. A
score stands beside it in the answer, a probability where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RowOutputs:
    """The outputs of a text or a window of it: without padding, in float32, on the CPU.

    `special` marks the tokens that the tokenizer added, bool `[length]`.
    """

    outputs: tuple[Tensor, ...]
    special: Tensor


#: The rows of one item of a request, in order.
Item = Sequence[RowOutputs]


@dataclass(frozen=True)
class Comparison:
    """How many decisions of an item were kept, and the largest score change of each decision."""

    decisions: int
    kept: int
    changes: tuple[float, ...]


def compare_choices(expected: Tensor, actual: Tensor) -> Comparison:
    """Compare logits `[choices, classes]`: each best class is a decision, softmax gives scores."""
    same = expected.argmax(-1) == actual.argmax(-1)
    moved = (expected.softmax(-1) - actual.softmax(-1)).abs().amax(-1)
    return Comparison(len(same), int(same.sum()), tuple(moved.tolist()))


def compare_thresholds(expected: Tensor, actual: Tensor) -> Comparison:
    """Compare which logits `[classes]` are positive: one decision, with sigmoids as scores."""
    same = torch.equal(expected > 0, actual > 0)
    moved = (expected.sigmoid() - actual.sigmoid()).abs().max()
    return Comparison(1, int(same), (float(moved),))


def compare_numbers(expected: Tensor, actual: Tensor) -> Comparison:
    """Compare numbers without decisions; changes are relative to those larger than 1."""
    moved = (expected - actual).abs() / expected.abs().clamp(min=1.0)
    return Comparison(0, 0, (float(moved.max()),))


def compare_order(expected: Tensor, actual: Tensor) -> Comparison:
    """Compare the order of logits `[candidates]`: each pair is a decision, sigmoids are scores."""
    first, second = torch.triu_indices(len(expected), len(expected), offset=1)
    same = (expected[first] < expected[second]) == (actual[first] < actual[second])
    moved = (expected.sigmoid() - actual.sigmoid()).abs()
    return Comparison(len(same), int(same.sum()), tuple(moved.tolist()))


#: A model's `problem_type` -> comparison of the logits `[classes]` of one text.
BY_PROBLEM: dict[str, Callable[[Tensor, Tensor], Comparison]] = {
    "single_label_classification": lambda expected, actual: compare_choices(
        expected[None], actual[None]
    ),
    "multi_label_classification": compare_thresholds,
    "regression": compare_numbers,
}
