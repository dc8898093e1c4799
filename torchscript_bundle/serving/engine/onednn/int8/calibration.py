"""Measure once, on sample inputs, the range of each linear layer's inputs.

With fixed ranges a row's outputs are its own. Dynamic quantisation takes ranges from the present
batch, so that outputs depend on the other rows and on padding.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from torchscript_bundle.serving.engine.comparison import UnavailableError
from torchscript_bundle.serving.engine.onednn.edited_graph import Arguments
from torchscript_bundle.serving.engine.onednn.int8.observers import Observer, observe
from torchscript_bundle.serving.engine.onednn.int8.smoothing import range_of, smoothquant_scales


@dataclass(frozen=True)
class LayerRange:
    """The range of the inputs of one linear layer.

    Attributes:
        inputs, outputs: numbers of features.
        fingerprint: CRC-32 of the weight's first row.
        low, high: least and largest input, after division; None if the layer did not run.
        divisors: SmoothQuant scales `[in]`, the same for layers that read the same input, if any.
    """

    inputs: int
    outputs: int
    fingerprint: int
    low: float | None
    high: float | None
    divisors: list[float] | None = None

    @classmethod
    def of(cls, observer: Observer, scales: torch.Tensor | None) -> LayerRange:
        """Return the observed range, divided by SmoothQuant scales."""
        outputs, inputs = observer.weight.shape
        mark = fingerprint(observer.weight)
        if not observer.ran:
            return cls(inputs, outputs, mark, None, None)
        divisors = None if scales is None else scales.tolist()
        return cls(inputs, outputs, mark, *range_of(observer, scales), divisors)

    def is_of(self, weight: torch.Tensor) -> bool:
        """Tell whether this range belongs to a layer with this weight `[out, in]`, float32."""
        sizes = (self.outputs, self.inputs)
        return sizes == tuple(weight.shape) and self.fingerprint == fingerprint(weight)


@dataclass(frozen=True)
class Calibration:
    """Ranges of the linear layers of one method, in the order of its graph."""

    method: str
    layers: tuple[LayerRange, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self) | {"layers": [asdict(layer) for layer in self.layers]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Calibration:
        """Read the form of `as_dict`; raise ValueError for anything else."""
        try:
            layers = tuple(LayerRange(**layer) for layer in data["layers"])
            method = data["method"]
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is not a calibration: {error}") from None
        for number, layer in enumerate(layers):
            if not _is_range(layer.low, layer.high):
                raise ValueError(f"layer {number} of the calibration has no finite range")
            if layer.divisors is not None and not _are_divisors(layer.divisors, layer.inputs):
                raise ValueError(f"layer {number} of the calibration has no divisor for each input")
        return cls(str(method), layers)


def _is_range(low: Any, high: Any) -> bool:
    return low is high is None or (_are_finite([low, high]) and low <= high)


def _are_divisors(numbers: Any, inputs: int) -> bool:
    if not isinstance(numbers, list) or len(numbers) != inputs:
        return False
    return _are_finite(numbers) and min(numbers, default=1) > 0


def _are_finite(numbers: list[Any]) -> bool:
    return all(isinstance(each, (int, float)) and math.isfinite(each) for each in numbers)


def fingerprint(weight: torch.Tensor) -> int:
    """Return the CRC-32 of the first row's bytes, which are the same on any machine."""
    return zlib.crc32(bytes(weight[0].detach().contiguous().view(torch.uint8).tolist()))


def calibrate(
    module: torch.jit.ScriptModule, inputs: Sequence[Arguments], method: str = "forward"
) -> Calibration:
    """Run sample inputs through a module and record the ranges of its linear layers.

    The module, in float32 on the CPU, stays unchanged. Inputs should be like those of requests,
    best without padding, which counts as any token.
    """
    if not inputs:
        raise UnavailableError("calibration needs at least one sample")
    with torch.no_grad():
        observers = observe(module, inputs, method)
        by_input: dict[int, list[Observer]] = {}
        for each in observers:
            by_input.setdefault(each.input_number, []).append(each)
        scales = {
            number: smoothquant_scales(group) if all(each.ran for each in group) else None
            for number, group in by_input.items()
        }
        layers = tuple(LayerRange.of(each, scales[each.input_number]) for each in observers)
    return Calibration(method, layers)
