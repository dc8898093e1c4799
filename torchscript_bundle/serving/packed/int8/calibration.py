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

from torchscript_bundle.serving.packed.errors import NotPackedError
from torchscript_bundle.serving.packed.freezing import (
    Arguments,
    frozen_graphs,
    function_of,
    name_layers,
    outputs,
    refuse_other_devices,
)
from torchscript_bundle.serving.packed.graphs import (
    Graph,
    Node,
    PackedInputs,
    all_nodes,
    insert,
    insert_constant,
)
from torchscript_bundle.serving.packed.linears import is_packable, weight_of

# Lowers a number of %lows to the least of %input, and raises one of %highs to its largest.
_OBSERVE = """graph(%input, %lows, %highs, %index : int):
  %first : int = prim::Constant[value=0]()
  %no : bool = prim::Constant[value=0]()
  %all : int[] = prim::ListConstruct()
  %least : Tensor = aten::amin(%input, %all, %no)
  %largest : Tensor = aten::amax(%input, %all, %no)
  %low : Tensor = aten::select(%lows, %first, %index)
  %high : Tensor = aten::select(%highs, %first, %index)
  %lower : Tensor = aten::minimum(%low, %least)
  %higher : Tensor = aten::maximum(%high, %largest)
  %kept : Tensor = aten::copy_(%low, %lower, %no)
  %output : Tensor = aten::copy_(%high, %higher, %no)
  return (%output)"""


@dataclass(frozen=True)
class LayerRange:
    """What one linear layer reads.

    Attributes:
        inputs: its input features.
        outputs: its output features.
        fingerprint: CRC-32 of its weight's first row.
        low: the least number that it read; None if it did not run.
        high: the largest.
    """

    inputs: int
    outputs: int
    fingerprint: int
    low: float | None
    high: float | None

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
        return cls(str(method), layers)


def _is_range(low: object, high: object) -> bool:
    if low is None and high is None:
        return True
    numbers = isinstance(low, (int, float)) and isinstance(high, (int, float))
    return numbers and math.isfinite(low) and math.isfinite(high) and low <= high  # type: ignore[arg-type,operator]


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
        refuse_other_devices(module)
        graph = frozen_graphs(module, [method])[method]
        name_layers(graph)
        weights = [weight_of(layer) for layer in quantisable(graph)]
        lows = torch.full((len(weights),), math.inf)
        highs = torch.full((len(weights),), -math.inf)
        ranges = _observe(graph, lows, highs)
        outputs(method, function_of(method, graph, ranges), inputs)
    layers = tuple(map(_layer_range, weights, lows.tolist(), highs.tolist()))
    return Calibration(method, layers)


def quantisable(graph: Graph) -> list[Node]:
    """Linear layers in the order in which a calibration holds them."""
    return [node for node in all_nodes(graph) if is_packable(node)]


def fingerprint(weight: torch.Tensor) -> int:
    """CRC-32 of the first row's bytes, which are the same on any machine."""
    return zlib.crc32(bytes(weight[0].detach().contiguous().view(torch.uint8).tolist()))


def _observe(graph: Graph, lows: torch.Tensor, highs: torch.Tensor) -> list[torch.Tensor]:
    """Lets a graph write ranges into tensors, which become its last inputs and are returned."""
    inputs = PackedInputs(graph)
    ends = [inputs.holding(each) for each in (lows, highs)]
    for index, layer in enumerate(quantisable(graph)):
        number = insert_constant(graph, layer, index)
        insert(graph, layer, _OBSERVE, layer.inputsAt(0), *ends, number)
    return inputs.tensors


def _layer_range(weight: torch.Tensor, low: float, high: float) -> LayerRange:
    outputs, inputs = weight.shape
    ran = math.isfinite(low) and math.isfinite(high)
    found = (low, high) if ran else (None, None)
    return LayerRange(inputs, outputs, fingerprint(weight), *found)
