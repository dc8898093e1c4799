"""The range of what each linear layer reads, measured once on sample inputs.

A range that is fixed beforehand makes a row's answer its own: one that is taken from the batch at
hand, as dynamic quantisation does, depends on the other rows and on padding.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from torchscript_bundle.serving.engine.comparison import NotPackedError
from torchscript_bundle.serving.engine.onednn.frozen_graphs import Arguments
from torchscript_bundle.serving.engine.onednn.int8.observers import Observed, observe
from torchscript_bundle.serving.engine.onednn.int8.smoothing import divisors_of, range_of


@dataclass(frozen=True)
class LayerRange:
    """What one linear layer reads.

    Attributes:
        inputs: its input features.
        outputs: its output features.
        fingerprint: CRC-32 of its weight's first row.
        low: the least number that it read, divided; None if it did not run.
        high: the largest.
        divisors: what each input is divided by before it is quantised, the weight being multiplied;
            None if by nothing. Layers that read the same have the same.
    """

    inputs: int
    outputs: int
    fingerprint: int
    low: float | None
    high: float | None
    divisors: list[float] | None = None

    def is_of(self, weight: torch.Tensor) -> bool:
        """Whether this is of a layer with such a weight `[out, in]`, float32."""
        sizes = (self.outputs, self.inputs)
        return sizes == tuple(weight.shape) and self.fingerprint == fingerprint(weight)


@dataclass(frozen=True)
class Calibration:
    """Ranges of all linear layers of one method.

    Attributes:
        method: its name.
        layers: in the order of its graph.
    """

    method: str
    layers: tuple[LayerRange, ...]

    def as_dict(self) -> dict[str, Any]:
        """What JSON can hold."""
        return asdict(self) | {"layers": [asdict(layer) for layer in self.layers]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Calibration:
        """The opposite of `as_dict`.

        Raises:
            ValueError: it is of another form.
        """
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


def _is_range(low: object, high: object) -> bool:
    if low is None and high is None:
        return True
    numbers = isinstance(low, (int, float)) and isinstance(high, (int, float))
    return numbers and math.isfinite(low) and math.isfinite(high) and low <= high  # type: ignore[arg-type,operator]


def _are_divisors(numbers: object, inputs: int) -> bool:
    if not isinstance(numbers, list) or len(numbers) != inputs:
        return False
    return all(isinstance(each, (int, float)) and 0 < each < math.inf for each in numbers)


def calibrate(
    module: torch.jit.ScriptModule, inputs: Sequence[Arguments], method: str = "forward"
) -> Calibration:
    """Runs sample inputs through a module and notes what its linear layers read.

    Args:
        module: loaded, in eval mode, on the CPU, float32. It is left as it is.
        inputs: a method's arguments, such as are expected later. Best without padding, whose tokens
            count as others do.
        method: its name.

    Raises:
        NotPackedError: the module cannot be observed; the message says why.
    """
    if not inputs:
        raise NotPackedError("calibration needs at least one sample")
    with torch.no_grad():
        observed = observe(module, inputs, method)
        groups: dict[int, list[Observed]] = {}
        for each in observed:
            groups.setdefault(each.reads, []).append(each)
        divisors = {
            reads: divisors_of(group) if all(each.ran for each in group) else None
            for reads, group in groups.items()
        }
        layers = tuple(_layer_range(each, divisors[each.reads]) for each in observed)
    return Calibration(method, layers)


def fingerprint(weight: torch.Tensor) -> int:
    """CRC-32 of the first row's bytes, which are the same on any machine."""
    return zlib.crc32(bytes(weight[0].detach().contiguous().view(torch.uint8).tolist()))


def _layer_range(layer: Observed, divisors: torch.Tensor | None) -> LayerRange:
    outputs, inputs = layer.weight.shape
    mark = fingerprint(layer.weight)
    if not layer.ran:
        return LayerRange(inputs, outputs, mark, None, None)
    numbers = None if divisors is None else divisors.tolist()
    return LayerRange(inputs, outputs, mark, *range_of(layer, divisors), numbers)
