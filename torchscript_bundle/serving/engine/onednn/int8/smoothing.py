"""SmoothQuant scales: divide input channels by them, multiply their weights, quantise both.

A few channels that are a hundred times as large as the others take nearly all steps of a common
scale. "SmoothQuant" (Xiao et al., 2023, https://arxiv.org/abs/2211.10438) moves that range from the
activations, with one scale, to the weights, with one per output channel. The division is one more
operator, so it must pay.
"""

from __future__ import annotations

import torch

from torchscript_bundle.serving.engine.onednn.int8.observers import Observer
from torchscript_bundle.serving.engine.onednn.int8.quantised_weights import LARGEST, STEPS

#: Migration strengths to try: the part of a channel's range that moves to its weights.
STRENGTHS = (0.5, 0.6, 0.7, 0.8, 0.9)
#: The variance of the rounding noise must fall by this factor, else channels stay as they are.
GAIN = 2.0


def smoothquant_scales(observers: list[Observer]) -> torch.Tensor | None:
    """Return the best scales `[in]` for layers that read one value; None for little gain."""
    weight = torch.cat([each.weight for each in observers])
    first = observers[0]
    largest_inputs = torch.maximum(first.lows.abs(), first.highs.abs()).clamp(min=1e-5)
    largest_weights = weight.abs().amax(dim=0).clamp(min=1e-5)
    least, best = _noise(first, weight, torch.ones_like(largest_inputs)) / GAIN, None
    for strength in STRENGTHS:
        raw = largest_inputs**strength / largest_weights ** (1 - strength)
        # Few digits keep the calibration file short; ranges are computed with these.
        scales = torch.tensor([float(f"{each:.4g}") for each in (raw / raw.mean()).tolist()])
        scales = scales.clamp(min=1e-4)
        noise = _noise(first, weight, scales)
        if noise < least:
            least, best = noise, scales
    return best


def range_of(observer: Observer, scales: torch.Tensor | None) -> tuple[float, float]:
    """Return a layer's least and largest input, divided by the scales."""
    by = 1.0 if scales is None else scales
    return float((observer.lows / by).min()), float((observer.highs / by).max())


def _noise(observer: Observer, weight: torch.Tensor, scales: torch.Tensor) -> float:
    """Return the variance that rounding activations and weights adds to all outputs of a token."""
    low, high = range_of(observer, scales)
    input_step = (max(high, 0.0) - min(low, 0.0)) / STEPS
    scaled = weight * scales
    weight_steps = scaled.abs().amax(dim=1) / LARGEST
    mean_squares = observer.squares / observer.tokens / scales**2
    of_activations = input_step**2 * scaled.square().sum()
    of_weights = weight_steps.square().sum() * mean_squares.sum()
    return float(of_activations + of_weights)
