"""Finds activation functions that a model spells out, and writes each as one operator.

What a chain of elementwise operators computes is found by computing it: on a grid of numbers it
either equals a known function or it does not, however it was spelled.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from torchscript_bundle.serving.engine.onednn.find.linears import LINEAR
from torchscript_bundle.serving.engine.onednn.graph_editing import (
    Graph,
    Node,
    Value,
    constant_of,
    insert,
    nodes_of,
)

Function = Callable[..., torch.Tensor]

#: Operators that a chain may hold. All are elementwise, so that numbers tell what they compute.
ELEMENTWISE: dict[str, Function] = {
    "aten::add": lambda one, other, alpha: torch.add(one, other, alpha=alpha),
    "aten::sub": lambda one, other, alpha: torch.sub(one, other, alpha=alpha),
    "aten::mul": torch.mul,
    "aten::div": torch.div,
    "aten::pow": torch.pow,
    "aten::tanh": torch.tanh,
    "aten::erf": torch.erf,
    "aten::sigmoid": torch.sigmoid,
}

_ONE_OPERATOR = """graph(%input):
  {constants}
  %output : Tensor = {operator}
  return (%output)"""

_GELU = _ONE_OPERATOR.format(
    constants='%form : str = prim::Constant[value="{form}"]()',
    operator="aten::gelu(%input, %form)",
)

#: What a chain may turn out to be, and its one operator.
KNOWN: tuple[tuple[Function, str], ...] = (
    (lambda grid: torch.nn.functional.gelu(grid, approximate="tanh"), _GELU.format(form="tanh")),
    (torch.nn.functional.gelu, _GELU.format(form="none")),
    (
        torch.nn.functional.silu,
        _ONE_OPERATOR.format(constants="", operator="aten::silu(%input)"),
    ),
)

#: Of the largest value; what spellings of one function differ by in float32.
TOLERANCE = 1e-6
GRID = torch.linspace(-12, 12, 4801)


def name_activations(graph: Graph) -> None:
    """Gives the chain after every linear layer the name of what it computes, if it has one."""
    for node in nodes_of(graph, LINEAR):
        _name_chain(graph, node)


def _name_chain(graph: Graph, linear: Node) -> None:
    chain = _chain_after(linear)
    if len(chain) < 2:
        return
    computed = _compute(chain, linear.output())
    if computed is None:
        return
    last = chain[-1]
    for function, template in KNOWN:
        expected = function(GRID)
        if torch.allclose(computed, expected, rtol=0, atol=TOLERANCE * float(GRID.max())):
            last.output().replaceAllUsesWith(insert(graph, last, template, linear.output()))
            return


def _chain_after(linear: Node) -> list[Node]:
    """Elementwise nodes that read the layer's output alone; only the last is read by others."""
    known = {linear.output().unique()}
    chain: list[Node] = []
    for node in linear.owningBlock().nodes():
        if node.kind() in ELEMENTWISE and _reads_only(node, known):
            chain.append(node)
            known.add(node.output().unique())
    inside = {id(node) for node in chain}
    inner = [linear.output(), *(node.output() for node in chain[:-1])]
    if all(id(use.user) in inside for value in inner for use in value.uses()):
        return chain
    return []


def _reads_only(node: Node, known: set[int]) -> bool:
    """Whether a node reads at least one known value, and else constant numbers."""
    others = [value for value in node.inputs() if value.unique() not in known]
    return len(others) < len(list(node.inputs())) and all(
        _number(each) is not None for each in others
    )


def _number(value: Value) -> float | None:
    """A constant number, also as a tensor without dimensions, which is how one is traced."""
    constant = constant_of(value)
    if isinstance(constant, torch.Tensor) and constant.dim() == 0:
        return float(constant)
    return constant if isinstance(constant, (int, float)) else None


def _compute(chain: list[Node], given: Value) -> torch.Tensor | None:
    """What the chain gives for the grid; None where an operator has another form."""
    values: dict[int, torch.Tensor] = {given.unique(): GRID}
    for node in chain:
        arguments = [
            values[value.unique()] if value.unique() in values else _number(value)
            for value in node.inputs()
        ]
        try:
            values[node.output().unique()] = ELEMENTWISE[node.kind()](*arguments)
        except (TypeError, RuntimeError):
            return None
    return values[chain[-1].output().unique()]
