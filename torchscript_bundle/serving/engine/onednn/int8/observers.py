"""Observe the inputs of a module's linear layers on samples, by channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from torchscript_bundle.serving.engine.onednn import ir
from torchscript_bundle.serving.engine.onednn.edited_graph import (
    Arguments,
    EditedGraph,
    run_examples,
)
from torchscript_bundle.serving.engine.onednn.find import find_layers
from torchscript_bundle.serving.engine.onednn.find.linears import packable_linears, weight_of
from torchscript_bundle.serving.engine.onednn.frozen_graphs import frozen_graphs

_OBSERVE = f"""graph(%input, %features : int, %lows, %highs, %squares, %rows):
  {ir.constants(first=0, one=1, any=-1, no=False, none=None)}
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
class Observer:
    """The inputs of one linear layer with a weight `[out, in]`, updated by each run.

    Attributes:
        input_number: the same for layers that read the same value.
        lows, highs: least and largest number of each input channel, `[in]`; infinite at first.
        squares: sum of squares of each input channel, `[in]`.
        tokens: number of tokens, a scalar.
    """

    weight: torch.Tensor
    input_number: int
    lows: torch.Tensor
    highs: torch.Tensor
    squares: torch.Tensor
    tokens: torch.Tensor

    @classmethod
    def of(cls, layer: ir.Node) -> Observer:
        """Make an observer that has seen nothing."""
        weight = weight_of(layer).detach()
        ends = torch.full((weight.shape[1],), math.inf)
        squares, tokens = torch.zeros_like(ends), torch.zeros(())
        return cls(weight, layer.inputsAt(0).unique(), ends, -ends, squares, tokens)

    @property
    def ran(self) -> bool:
        """Whether the layer read numbers, all of them finite."""
        ends = torch.cat([self.lows, self.highs])
        return bool(ends.isfinite().all())


def observe(
    module: torch.jit.ScriptModule, inputs: Sequence[Arguments], method: str
) -> list[Observer]:
    """Run inputs through a method; return the observers of its linear layers, in their order."""
    graph = frozen_graphs(module, [method])[method]
    find_layers(graph)
    edited = EditedGraph(method, graph)
    observers = []
    for layer in packable_linears(graph):
        each = Observer.of(layer)
        features = ir.insert_constant(graph, layer, each.weight.shape[1])
        seen = map(edited.input_for, (each.lows, each.highs, each.squares, each.tokens))
        ir.insert(graph, layer, _OBSERVE, layer.inputsAt(0), features, *seen)
        observers.append(each)
    run_examples(method, edited.compile(), inputs)
    return observers
