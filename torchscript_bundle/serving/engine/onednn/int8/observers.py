"""Runs a module on samples and notes, for each linear layer, what its input channels hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from torchscript_bundle.serving.engine.onednn.find.linears import packable, weight_of
from torchscript_bundle.serving.engine.onednn.frozen_graphs import (
    Arguments,
    frozen_graphs,
    function_of,
    outputs,
    refuse_other_devices,
)
from torchscript_bundle.serving.engine.onednn.graph_editing import (
    Graph,
    Node,
    PackedInputs,
    insert,
    insert_constant,
)

_OBSERVE = """graph(%input, %features : int, %lows, %highs, %squares, %rows):
  %first : int = prim::Constant[value=0]()
  %one : int = prim::Constant[value=1]()
  %any : int = prim::Constant[value=-1]()
  %no : bool = prim::Constant[value=0]()
  %none : NoneType = prim::Constant()
  %shape : int[] = prim::ListConstruct(%any, %features)
  %over : int[] = prim::ListConstruct(%first)
  %tokens : Tensor = aten::reshape(%input, %shape)
  %least : Tensor = aten::amin(%tokens, %over, %no)
  %lower : Tensor = aten::minimum(%lows, %least)
  %low : Tensor = aten::copy_(%lows, %lower, %no)
  %largest : Tensor = aten::amax(%tokens, %over, %no)
  %higher : Tensor = aten::maximum(%highs, %largest)
  %high : Tensor = aten::copy_(%highs, %higher, %no)
  %products : Tensor = aten::mul(%tokens, %tokens)
  %sum : Tensor = aten::sum(%products, %over, %no, %none)
  %total : Tensor = aten::add_(%squares, %sum, %one)
  %count : int = aten::size(%tokens, %first)
  %output : Tensor = aten::add_(%rows, %count, %one)
  return (%output)"""


@dataclass(frozen=True)
class Observed:
    """A linear layer and what it read.

    Attributes:
        weight: `[out, in]`.
        reads: number of the value that it reads; layers that read one value share it.
        lows: the least number of each input channel, `[in]`; infinite if the layer did not run.
        highs: the largest.
        squares: sums of squares over all tokens, `[in]`.
        rows: how many tokens.
    """

    weight: torch.Tensor
    reads: int
    lows: torch.Tensor
    highs: torch.Tensor
    squares: torch.Tensor
    rows: torch.Tensor

    @property
    def ran(self) -> bool:
        """Whether it read numbers, all finite."""
        ends = torch.cat([self.lows, self.highs])
        return bool(ends.isfinite().all())


def quantisable(graph: Graph) -> list[Node]:
    """Linear layers in the order in which a calibration holds them."""
    return packable(graph)


def observe(
    module: torch.jit.ScriptModule, inputs: Sequence[Arguments], method: str
) -> list[Observed]:
    """What the linear layers of a method read, in the order of `quantisable`.

    Raises:
        NotPackedError: the module cannot be observed.
    """
    refuse_other_devices(module)
    graph = frozen_graphs(module, [method])[method]
    layers = quantisable(graph)
    observed = [_observed(layer) for layer in layers]
    packed = PackedInputs(graph)
    for layer, each in zip(layers, observed, strict=True):
        features = insert_constant(graph, layer, each.weight.shape[1])
        places = map(packed.holding, (each.lows, each.highs, each.squares, each.rows))
        insert(graph, layer, _OBSERVE, layer.inputsAt(0), features, *places)
    outputs(method, function_of(method, graph, packed.tensors), inputs)
    return observed


def _observed(layer: Node) -> Observed:
    weight = weight_of(layer).detach()
    features = weight.shape[1]
    return Observed(
        weight,
        layer.inputsAt(0).unique(),
        torch.full((features,), math.inf),
        torch.full((features,), -math.inf),
        torch.zeros(features),
        torch.zeros(()),
    )
