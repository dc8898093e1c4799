"""Find activation functions that a model spells out, and write each as one operator.

A grid of numbers compares each chain of elementwise operators with the known functions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from torchscript_bundle.serving.engine.onednn import ir
from torchscript_bundle.serving.engine.onednn.find.linears import LINEAR

Function = Callable[..., torch.Tensor]

#: Operators of a chain: all are elementwise, so that a grid shows their function.
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

_GELU = """graph(%input):
  %approximate : str = prim::Constant[value="{approximate}"]()
  %output : Tensor = aten::gelu(%input, %approximate)
  return (%output)"""

_SILU = """graph(%input):
  %output : Tensor = aten::silu(%input)
  return (%output)"""

#: Known functions, and the one operator that computes each.
KNOWN: tuple[tuple[Function, str], ...] = (
    (
        lambda grid: torch.nn.functional.gelu(grid, approximate="tanh"),
        _GELU.format(approximate="tanh"),
    ),
    (torch.nn.functional.gelu, _GELU.format(approximate="none")),
    (torch.nn.functional.silu, _SILU),
)

#: Largest difference between spellings of one function in float32, relative to its largest value.
TOLERANCE = 1e-6
GRID = torch.linspace(-12, 12, 4801)


def write_as_activations(graph: ir.Graph) -> None:
    """Replace the chain after every linear layer by a known function that equals it."""
    atol = TOLERANCE * float(GRID.max())
    for linear in ir.nodes_of(graph, LINEAR):
        chain = _chain_after(linear)
        computed = _evaluate(chain, linear.output()) if len(chain) > 1 else None
        if computed is None:
            continue
        for function, template in KNOWN:
            if torch.allclose(computed, function(GRID), rtol=0, atol=atol):
                activation = ir.insert(graph, chain[-1], template, linear.output())
                chain[-1].output().replaceAllUsesWith(activation)
                break


def _chain_after(linear: ir.Node) -> list[ir.Node]:
    """Return elementwise nodes that read only the layer's output; others read only the last one."""
    known = {linear.output().unique()}
    chain: list[ir.Node] = []
    for node in linear.owningBlock().nodes():
        if node.kind() in ELEMENTWISE and _reads_only(node, known):
            chain.append(node)
            known.add(node.output().unique())
    inside = {id(node) for node in chain}
    inner = [linear.output(), *(node.output() for node in chain[:-1])]
    alone = all(id(use.user) in inside for value in inner for use in value.uses())
    return chain if alone else []


def _reads_only(node: ir.Node, known: set[int]) -> bool:
    """Return whether a node reads a known value, and otherwise only constant numbers."""
    inputs = list(node.inputs())
    others = [value for value in inputs if value.unique() not in known]
    return len(others) < len(inputs) and all(_number(each) is not None for each in others)


def _number(value: ir.Value) -> float | None:
    """Return a constant number; a trace holds it as a tensor without dimensions."""
    constant = ir.constant_of(value)
    if isinstance(constant, torch.Tensor) and constant.dim() == 0:
        return float(constant)
    return constant if isinstance(constant, (int, float)) else None


def _evaluate(chain: list[ir.Node], given: ir.Value) -> torch.Tensor | None:
    """Return the chain's values on the grid; None where an operator takes other arguments."""
    values: dict[int, torch.Tensor] = {given.unique(): GRID}
    result = GRID
    for node in chain:
        arguments = [values.get(each.unique(), _number(each)) for each in node.inputs()]
        try:
            result = values[node.output().unique()] = ELEMENTWISE[node.kind()](*arguments)
        except (TypeError, RuntimeError):
            return None
    return result
