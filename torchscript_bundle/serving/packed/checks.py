"""Compares what a packed module gives with what the module as saved gives."""

from __future__ import annotations

from typing import Any

import torch

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
