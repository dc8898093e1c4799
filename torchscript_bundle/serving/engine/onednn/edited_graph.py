"""A method's graph during its rewriting, and the function that runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import torch

from torchscript_bundle.serving.engine.comparison import GRAPH_ERRORS, UnavailableError
from torchscript_bundle.serving.engine.onednn import ir
from torchscript_bundle.serving.errors import last_line

#: A method's arguments, by position.
Arguments = tuple[Any, ...]
Method = Callable[..., Any]

EMBEDDING = "aten::embedding"
#: Smaller tensors stay constants, and are not shared between workers (bytes).
LARGE = 1 << 20


@dataclass(eq=False)
class FunctionWithWeights:
    """A function whose last arguments are weights, which may be replaced by equal ones."""

    function: Callable[..., Any]
    weights: list[torch.Tensor]

    def __call__(self, *arguments: Any) -> Any:
        """Call the function with the arguments and the weights."""
        # First calls would spend seconds to find nothing to optimise.
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            return self.function(*arguments, *self.weights)


@dataclass
class EditedGraph:
    """A method's graph and weights that become inputs after its own: no constant can be packed.

    Attributes:
        assume_same_shape: also fuse what fails at unusual shapes: sums and products, whose operands
            might be broadcast, and layers that read one input, whose outputs become slices.
        merged: several batches run as one, so that few rows are rare.
        linears: how many linear layers were replaced.
        weights: of the added inputs, in order.
    """

    name: str
    graph: ir.Graph
    _: KW_ONLY
    assume_same_shape: bool = False
    merged: bool = False
    linears: int = 0
    weights: list[torch.Tensor] = field(default_factory=list)
    _inputs: dict[int, ir.Value] = field(default_factory=dict)

    def input_for(self, weight: torch.Tensor) -> ir.Value:
        """Return the input that holds a tensor; add one for a new tensor."""
        if id(weight) not in self._inputs:
            value = self._inputs[id(weight)] = self.graph.addInput()
            value.setType(torch._C.TensorType.get())
            self.weights.append(weight)
        return self._inputs[id(weight)]

    def compile(self) -> FunctionWithWeights:
        """Compile the graph as it is now."""
        torch._C._jit_pass_constant_pooling(self.graph)  # type: ignore[attr-defined]
        self.graph.lint()
        self._take_out_embeddings()
        function = torch._C._create_function_from_graph(self.name, self.graph)
        return FunctionWithWeights(function, self.weights)

    def _take_out_embeddings(self) -> None:
        """Turn large embedding tables into inputs, so that workers can share them."""
        for node in ir.nodes_of(self.graph, EMBEDDING):
            constant = node.inputsAt(0)
            table = ir.constant_tensor(constant)
            if table is None or table.numel() * table.element_size() < LARGE:
                continue
            users = {use.user.kind() for use in constant.uses()}
            if table.is_contiguous() and users == {EMBEDDING}:
                constant.replaceAllUsesWith(self.input_for(table.detach()))
        torch._C._jit_pass_dce(self.graph)  # an unused constant would keep its table


def run_examples(name: str, method: Method, examples: Sequence[Arguments]) -> list[Any]:
    """Run a method on copies of the arguments, since it may write into a cache."""
    try:
        return [method(*_copy(arguments)) for arguments in examples]
    except GRAPH_ERRORS as error:
        raise UnavailableError(f"{name} fails on an example: {last_line(error)}") from error


def _copy(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    return type(value)(map(_copy, value)) if isinstance(value, (tuple, list)) else value
