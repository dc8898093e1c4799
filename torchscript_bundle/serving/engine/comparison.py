"""Compare a faster executor with the module as saved: the rows, and the measure."""

from __future__ import annotations

from typing import Any

import torch

from torchscript_bundle.serving.artifact import PRECISIONS, Bundle
from torchscript_bundle.serving.text.tokenizer import Row

#: Errors of a running graph: TorchScript turns nearly any error into a RuntimeError, but `raise`
#: and `assert` of the model into a torch.jit.Error.
GRAPH_ERRORS = (RuntimeError, torch.jit.Error, MemoryError)


class UnavailableError(Exception):
    """This machine cannot have a faster executor; the message is for the log."""


#: Largest difference from float32, relative to an output's largest value, by dtype.
TOLERANCES = {
    getattr(torch, name): precision.tolerance
    for name, precision in PRECISIONS.items()
    if not precision.calibrated
}


def difference(expected: Any, actual: Any) -> float:
    """Return the largest difference of two nested outputs, relative to each tensor's largest value.

    It is infinite where structure, shape, dtype or a value that is not finite differs.
    """
    if isinstance(expected, torch.Tensor):
        return _of_tensors(expected, actual) if isinstance(actual, torch.Tensor) else float("inf")
    if isinstance(expected, dict):
        if not isinstance(actual, dict) or expected.keys() != actual.keys():
            return float("inf")
        return max((difference(expected[key], actual[key]) for key in expected), default=0.0)
    if isinstance(expected, (tuple, list)):
        if type(expected) is not type(actual) or len(expected) != len(actual):
            return float("inf")
        pairs = zip(expected, actual, strict=True)
        return max((difference(*pair) for pair in pairs), default=0.0)
    return 0.0 if expected == actual else float("inf")


def _of_tensors(expected: torch.Tensor, actual: torch.Tensor) -> float:
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return float("inf")
    if not expected.is_floating_point():
        return 0.0 if torch.equal(expected, actual) else float("inf")
    finite = expected.isfinite()
    same = torch.equal(finite, actual.isfinite()) and torch.allclose(
        expected[~finite], actual[~finite], equal_nan=True
    )
    if not same:
        return float("inf")
    numbers = expected[finite].double()
    if not numbers.numel():
        return 0.0
    scale = numbers.abs().max().item() or 1.0
    return (numbers - actual[finite].double()).abs().max().item() / scale


#: Longest comparison row where any length runs: linear layers work token by token.
LONGEST = 64
ROWS = 3


def comparison_rows(bundle: Bundle, max_rows: int, text: Row) -> list[list[Row]]:
    """Stretch a word to batches of one row and of several, at all traced lengths or at two."""
    lengths = list(bundle.traced_lengths)
    if bundle.dynamic_length:
        shortest = max(bundle.min_length, len(text))
        lengths = sorted({shortest, max(shortest, min(bundle.max_length, LONGEST))})
    batches = [[text.stretched(length)] for length in lengths]
    rows = min(max_rows, ROWS) if bundle.dynamic_batch else 1
    if rows > 1:
        batches += [_mixed(bundle, text, length, rows) for length in lengths]
    return batches


def _mixed(bundle: Bundle, text: Row, length: int, rows: int) -> list[Row]:
    """Unless padding changes answers, all rows but the first are shorter."""
    shorter = length if bundle.reads_padding else max(1, length // 2)
    return [text.stretched(length), *[text.stretched(shorter)] * (rows - 1)]
