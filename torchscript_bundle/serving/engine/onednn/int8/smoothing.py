"""Divides input channels that reach far, and multiplies their weights, before both are quantised.

A few channels that are a hundred times as large as the others take nearly all steps of a common
scale. "SmoothQuant" (Xiao et al., 2023, https://arxiv.org/abs/2211.10438) moves that from the
activations, with one scale, to the weights, with one for each output. The division is one more
operator, so it is done only where it pays.
"""

from __future__ import annotations

import torch

from torchscript_bundle.serving.engine.onednn.int8.observers import Observed
from torchscript_bundle.serving.engine.onednn.int8.quantised_weights import LARGEST, STEPS

#: How much of a channel's reach goes to its weights.
SHARES = (0.5, 0.6, 0.7, 0.8, 0.9)
#: The variance of the rounding noise must fall by this factor, else nothing is divided.
GAIN = 2.0


def divisors_of(layers: list[Observed]) -> torch.Tensor | None:
    """What each input channel `[in]` is best divided by, or None where that gains little.

    Args:
        layers: all that read one value.
    """
    weight = torch.cat([layer.weight for layer in layers])
    first = layers[0]
    reach = torch.maximum(first.lows.abs(), first.highs.abs()).clamp(min=1e-5)
    largest = weight.abs().amax(dim=0).clamp(min=1e-5)
    best, divisors = _noise(first, weight, torch.ones_like(reach)) / GAIN, None
    for share in SHARES:
        raw = reach**share / largest ** (1 - share)
        # Few digits, so that a calibration file is short; its range is taken with these.
        tried = torch.tensor([float(f"{each:.4g}") for each in (raw / raw.mean()).tolist()])
        tried = tried.clamp(min=1e-4)
        noise = _noise(first, weight, tried)
        if noise < best:
            best, divisors = noise, tried
    return divisors


def range_of(layer: Observed, divisors: torch.Tensor | None) -> tuple[float, float]:
    """The least and the largest number that the layer reads, divided."""
    by = 1.0 if divisors is None else divisors
    return float((layer.lows / by).min()), float((layer.highs / by).max())


def _noise(layer: Observed, weight: torch.Tensor, divisors: torch.Tensor) -> float:
    """Variance that rounding of activations and of weights adds to all outputs of a token."""
    low, high = range_of(layer, divisors)
    step = (max(high, 0.0) - min(low, 0.0)) / STEPS
    scaled = weight * divisors
    steps = scaled.abs().amax(dim=1) / LARGEST
    squares = layer.squares / layer.rows / divisors**2
    of_activations = step**2 * scaled.square().sum()
    of_weights = steps.square().sum() * squares.sum()
    return float(of_activations + of_weights)
