"""Quantise weights per output channel, and activations with one scale and zero point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from torchscript_bundle.serving.engine.comparison import UnavailableError
from torchscript_bundle.serving.engine.onednn.packed_weights import (
    concatenate,
    key_of,
    require_operators,
)

OPERATORS = ("onednn::qlinear_pointwise", "onednn::qlinear_prepack", "aten::quantize_per_tensor")

#: Largest quantised weight. -128, which has no positive counterpart, is not used.
LARGEST = 127
#: Largest quantised activation, a uint8.
STEPS = 255


def has_int8() -> bool:
    """Ask torch whether this CPU has the int8 instructions (VNNI) that oneDNN uses."""
    return torch.cpu._is_vnni_supported()


@dataclass(frozen=True)
class Quantisation:
    """Affine quantisation of a tensor: number = scale * (uint8 - zero_point)."""

    scale: float
    zero_point: int

    @classmethod
    def of_range(cls, low: float, high: float) -> Quantisation:
        """Cover a range with uint8, and represent 0.0 exactly, since padding is zero."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = (high - low) / STEPS or 1.0
        return cls(scale, round(-low / scale))


@dataclass(frozen=True)
class QuantisedWeight:
    """An int8 weight `[out, in]` in oneDNN's layout, quantised symmetrically per output channel.

    `scales` are float32 `[out]`; `zero_points` are int64 `[out]`, all zero.
    """

    packed: torch.Tensor
    scales: torch.Tensor
    zero_points: torch.Tensor


class QuantisedWeights:
    """Quantises weights of linear layers, each once for all graphs."""

    def __init__(self) -> None:
        self._quantised: dict[object, tuple[Sequence[torch.Tensor], QuantisedWeight]] = {}
        require_operators(OPERATORS)
        if "onednn" not in torch.backends.quantized.supported_engines:
            raise UnavailableError("this torch is built without oneDNN's int8 operators")
        if not has_int8():
            # Without them, sums of two products overflow 16 bits, and outputs are wrong.
            raise UnavailableError("this CPU has no int8 instructions (VNNI)")

    def quantise(
        self, weights: Sequence[torch.Tensor], divisors: list[float] | None
    ) -> QuantisedWeight:
        """Return one int8 weight for several `[out, in]`, float32, that read the same input.

        Multiplies weights by the divisors `[in]` of their input channels.
        """
        key = key_of(weights), tuple(divisors or ())
        if key not in self._quantised:
            weight = concatenate(weights)
            if divisors is not None:
                weight = weight * torch.tensor(divisors)
            scales = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / LARGEST
            rounded = (weight / scales[:, None]).round().clamp(-LARGEST, LARGEST)
            packed = torch.ops.onednn.qlinear_prepack(rounded.to(torch.int8).contiguous(), None)
            zero_points = torch.zeros(len(scales), dtype=torch.int64)
            self._quantised[key] = weights, QuantisedWeight(packed, scales, zero_points)
        return self._quantised[key][1]
