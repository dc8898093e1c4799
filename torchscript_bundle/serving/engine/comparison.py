"""Compare a faster way to compute with the module as saved: on which rows, and how."""

from __future__ import annotations

from typing import Any

import torch

from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.text.tokenizer import Row

#: What a graph raises when it runs: TorchScript makes a RuntimeError of nearly any error, and of a
#: `raise` or `assert` that the model wrote a torch.jit.Error, which is no RuntimeError.
GRAPH_ERRORS = (RuntimeError, torch.jit.Error, MemoryError)


class NotPackedError(Exception):
    """A module cannot be packed here. The message says why, for the log."""


#: Largest difference, of the largest value of an output. In float32 sums are only ordered
#: otherwise; bfloat16 has 8 significant bits, and a deep model adds up what is lost in each layer.
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 1e-1}


def difference(expected: Any, actual: Any) -> float:
    """The largest difference of two nested outputs, of the largest value in each tensor.

    Returns:
        Infinity where structure, shape, dtype or a value that is not finite differs.
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


#: Where any length runs, no longer than this: linear layers work token by token.
LONGEST = 64
ROWS = 3


def packing_rows(bundle: Bundle, max_rows: int, text: Row) -> list[list[Row]]:
    """Batches of one row and of several, at every traced length or at a short and a longer one.

    Args:
        bundle: says what the module takes.
        max_rows: most rows in one forward pass.
        text: a tokenized word, which is stretched.
    """
    if bundle.dynamic_length:
        shortest = max(bundle.min_length, len(text))
        lengths = sorted({shortest, max(shortest, min(bundle.max_length, LONGEST))})
    else:
        lengths = list(bundle.traced_lengths)
    batches = [[text.stretched(length)] for length in lengths]
    rows = min(max_rows, ROWS) if bundle.dynamic_batch else 1
    if rows > 1:
        batches += [_mixed(bundle, text, length, rows) for length in lengths]
    return batches


def _mixed(bundle: Bundle, text: Row, length: int, rows: int) -> list[Row]:
    """Rows of which the others are shorter, so that they are padded, unless that is never done."""
    shorter = length if bundle.reads_padding else max(1, length // 2)
    return [text.stretched(length), *[text.stretched(shorter)] * (rows - 1)]
