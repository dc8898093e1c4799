"""Replaces the linear layers of a graph by oneDNN's, each with what follows it in one operator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from torchscript_bundle.serving.engine.onednn.find.linears import packable, weight_of
from torchscript_bundle.serving.engine.onednn.graph_editing import (
    Graph,
    Node,
    PackedInputs,
    Value,
    constant_of,
    constant_tensor,
    insert,
    insert_constant,
    moves_safely,
    only_user,
)
from torchscript_bundle.serving.engine.onednn.packed_weights import PackedWeights

UNARY = "mkldnn::_linear_pointwise"

_UNARY = """graph(%input, %packed, %bias):
  %function : str = prim::Constant[value="{function}"]()
  %scalars : Scalar?[] = prim::ListConstruct()
  %form : str = prim::Constant[value="{form}"]()
  %output : Tensor = mkldnn::_linear_pointwise(%input, %packed, %bias, %function, %scalars, %form)
  return (%output)"""

_BINARY = """graph(%input, %packed, %bias, %other):
  %function : str = prim::Constant[value="{function}"]()
  %output : Tensor = mkldnn::_linear_pointwise(%input, %other, %packed, %bias, %function)
  return (%output)"""

_PART = """graph(%input, %start, %end):
  %dimension : int = prim::Constant[value=-1]()
  %step : int = prim::Constant[value=1]()
  %output : Tensor = aten::slice(%input, %dimension, %start, %end, %step)
  return (%output)"""

#: Activation -> oneDNN's name of it. GELU has a form besides.
ACTIVATIONS = {
    "aten::gelu": "gelu",
    "aten::relu": "relu",
    "aten::silu": "swish",
    "aten::tanh": "tanh",
}
#: Operators on the output and a tensor of its shape.
BINARIES = {"aten::add": "add", "aten::mul": "mul"}


@dataclass
class PackedGraph:
    """A graph and its packed weights, which are its last inputs.

    Attributes:
        graph: is edited.
        weights: packs, and is shared with the module's other graphs.
        inputs: the graph's inputs that hold packed weights.
    """

    graph: Graph
    weights: PackedWeights
    inputs: PackedInputs

    def input_for(self, weights: list[torch.Tensor]) -> Value:
        """The graph's input that holds the packed form of these weights."""
        return self.inputs.holding(self.weights.pack(weights))


def fuse(packed: PackedGraph, boldly: bool) -> int:
    """Replaces every linear layer; returns how many there were.

    Args:
        packed: its graph is edited.
        boldly: also takes in what is right only if shapes are as they nearly always are.
    """
    linears = packable(packed.graph)
    plain = [
        node
        for node in linears
        if not (_fuse_activation(packed, node) or (boldly and _fuse_binary(packed, node)))
    ]
    for group in reading_the_same(plain, boldly):
        _replace_joined(packed, group)
    return len(linears)


def reading_the_same(linears: list[Node], boldly: bool) -> Iterator[list[Node]]:
    """Groups of layers that can be one, which may stand where the first stands."""
    groups: dict[tuple[int, bool], list[Node]] = {}
    for node in linears:
        has_bias = constant_tensor(node.inputsAt(2)) is not None
        groups.setdefault((node.inputsAt(0).unique(), has_bias), []).append(node)
    for first, *others in groups.values():
        movable = [node for node in others if boldly and moves_safely(first, node)]
        yield [first, *movable]
        yield from ([node] for node in others if node not in movable)


def _fuse_activation(packed: PackedGraph, linear: Node) -> bool:
    user = only_user(linear.output())
    if user is None or user.kind() not in ACTIVATIONS or not moves_safely(linear, user):
        return False
    form = constant_of(user.inputsAt(1)) if user.kind() == "aten::gelu" else "none"
    template = _UNARY.format(function=ACTIVATIONS[user.kind()], form=form)
    _replace(packed, user, linear, template)
    return True


def _fuse_binary(packed: PackedGraph, linear: Node) -> bool:
    user = only_user(linear.output())
    if user is None or user.kind() not in BINARIES or not moves_safely(linear, user):
        return False
    if user.kind() == "aten::add" and constant_of(user.inputsAt(2)) != 1:
        return False
    other = user.inputsAt(1 if user.inputsAt(0) == linear.output() else 0)
    if other.type().kind() != "TensorType" or other.node().kind() == "prim::Constant":
        return False
    _replace(packed, user, linear, _BINARY.format(function=BINARIES[user.kind()]), other)
    return True


def _replace(packed: PackedGraph, last: Node, linear: Node, template: str, *others: Value) -> None:
    """Puts an operator on the packed weight of a layer where `last` is."""
    given, _, bias = linear.inputs()
    vector = insert_constant(packed.graph, last, packed.weights.cast(constant_tensor(bias)))
    value = packed.input_for([weight_of(linear)])
    output = insert(packed.graph, last, template, given, value, vector, *others)
    last.output().replaceAllUsesWith(output)


def _replace_joined(packed: PackedGraph, linears: list[Node]) -> None:
    """Puts one operator for layers that read the same input."""
    plain = _UNARY.format(function="none", form="none")
    first, graph = linears[0], packed.graph
    if len(linears) == 1:
        _replace(packed, first, first, plain)
        return
    biases = [constant_tensor(node.inputsAt(2)) for node in linears]
    vectors = [each for each in biases if each is not None]
    bias = insert_constant(
        graph, first, packed.weights.cast(torch.cat(vectors) if vectors else None)
    )
    weight = packed.input_for([weight_of(node) for node in linears])
    split(graph, insert(graph, first, plain, first.inputsAt(0), weight, bias), linears)


def split(graph: Graph, joined: Value, linears: list[Node]) -> None:
    """Gives each layer's readers their part of what the layers give as one."""
    if len(linears) == 1:
        linears[0].output().replaceAllUsesWith(joined)
        return
    start = 0
    for node in linears:
        end = start + len(weight_of(node))
        bounds = (insert_constant(graph, linears[0], at) for at in (start, end))
        node.output().replaceAllUsesWith(insert(graph, linears[0], _PART, joined, *bounds))
        start = end
