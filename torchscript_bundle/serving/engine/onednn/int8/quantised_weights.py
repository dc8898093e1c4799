"""What int8 layers multiply: weights with a scale for each output, inputs with one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from torchscript_bundle.serving.engine.comparison import NotPackedError

OPERATORS = ("onednn::qlinear_pointwise", "onednn::qlinear_prepack", "aten::quantize_per_tensor")

#: Largest weight: int8's range, but for its one number without a positive counterpart.
LARGEST = 127
#: Steps of uint8.
STEPS = 255


def has_int8() -> bool:
    """Ask torch whether this CPU has the int8 instructions (VNNI) that oneDNN uses."""
    return torch.cpu._is_vnni_supported()


@dataclass(frozen=True)
class Quantisation:
    """number = scale * (uint8 - zero)."""

    scale: float
    zero: int

    @classmethod
    def of_range(cls, low: float, high: float) -> Quantisation:
        """Of uint8 numbers that reach from low to high, and zero exactly, since padding is zero."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = (high - low) / STEPS or 1.0
        return cls(scale, round(-low / scale))


@dataclass(frozen=True)
class QuantisedWeight:
    """A weight `[out, in]` in int8.

    Attributes:
        packed: in oneDNN's layout.
        scales: float32 `[out]`.
        zeros: int64 `[out]`, all zero: weights are symmetric.
    """

    packed: torch.Tensor
    scales: torch.Tensor
    zeros: torch.Tensor


class QuantisedWeights:
    """Quantises weights of linear layers, each once.

    Raises:
        NotPackedError: this build of torch, or this CPU, cannot.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[object, ...], QuantisedWeight] = {}
        # A key holds addresses, which stay theirs only as long as the tensors live.
        self._sources: list[torch.Tensor] = []
        missing = [name for name in OPERATORS if not torch._C._jit_get_schemas_for_operator(name)]
        if missing:
            raise NotPackedError(f"this torch has no {', '.join(missing)}")
        if "onednn" not in torch.backends.quantized.supported_engines:
            raise NotPackedError("this torch is built without oneDNN's int8 operators")
        if not has_int8():
            # Without them, sums of two products overflow 16 bits, and answers are wrong.
            raise NotPackedError("this CPU has no int8 instructions (VNNI)")

    def quantise(
        self, weights: Sequence[torch.Tensor], factors: list[float] | None
    ) -> QuantisedWeight:
        """One weight of several `[out, in]` that read the same input, joined by rows.

        Args:
            weights: float32.
            factors: what each input's weights are multiplied by; None: by nothing.
        """
        sources = ((each.data_ptr(), each.shape, each.stride()) for each in weights)
        key = (*sources, tuple(factors or ()))
        if key not in self._made:
            self._sources.extend(weights)
            joined = torch.cat(list(weights)) if len(weights) > 1 else weights[0].detach()
            if factors is not None:
                joined = joined * torch.tensor(factors)
            scales = joined.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / LARGEST
            numbers = (joined / scales[:, None]).round().clamp(-LARGEST, LARGEST)
            packed = torch.ops.onednn.qlinear_prepack(numbers.to(torch.int8).contiguous(), None)
            zeros = torch.zeros(len(scales), dtype=torch.int64)
            self._made[key] = QuantisedWeight(packed, scales, zeros)
        return self._made[key]
