"""A function whose last arguments are weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from torchscript_bundle.serving.engine.onednn.graph_editing import Graph, constant_tensor, nodes_of

EMBEDDING = "aten::embedding"
#: Smaller tensors are not worth an argument (bytes).
LARGE = 1 << 20


class Bound:
    """What runs a packed graph.

    Attributes:
        weights: given after the arguments of each call; each may be replaced by its equal.
    """

    def __init__(self, function: Callable[..., Any], weights: Sequence[torch.Tensor]) -> None:
        self._function = function
        self.weights = list(weights)

    def __call__(self, *arguments: Any) -> Any:
        """What the function gives for the arguments and the weights."""
        # Nothing is left to optimise in the graph, and to look for it takes seconds of first calls.
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            return self._function(*arguments, *self.weights)


def take_out_tables(graph: Graph) -> list[torch.Tensor]:
    """Makes large tables of embeddings, which are constants, inputs after all others.

    Returns:
        The tables, in the order of their inputs.
    """
    tables = []
    for node in nodes_of(graph, EMBEDDING):
        output = node.inputsAt(0)
        table = constant_tensor(output)
        if table is None or table.numel() * table.element_size() < LARGE:
            continue
        if not table.is_contiguous() or {use.user.kind() for use in output.uses()} != {EMBEDDING}:
            continue
        value = graph.addInput()
        value.setType(torch._C.TensorType.get())
        output.replaceAllUsesWith(value)
        tables.append(table.detach())
    torch._C._jit_pass_dce(graph)  # a constant that nothing reads would keep its table
    return tables
