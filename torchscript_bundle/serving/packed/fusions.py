"""Replaces the linear layers of a graph by oneDNN's, each with what follows it in one operator."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from torchscript_bundle.serving.packed.graphs import (
    Graph,
    Node,
    Value,
    all_nodes,
    constant_of,
    constant_tensor,
    insert,
    insert_constant,
    moves_safely,
    only_user,
)
from torchscript_bundle.serving.packed.linears import is_packable
from torchscript_bundle.serving.packed.weights import PackedWeights

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
        inputs: the packed weights in order.
    """

    graph: Graph
    weights: PackedWeights
    inputs: list[torch.Tensor] = field(default_factory=list)
    _values: dict[int, Value] = field(default_factory=dict)

    def input_for(self, weights: list[torch.Tensor]) -> Value:
        """The graph's input that holds the packed form of these weights."""
        packed = self.weights.pack(weights)
        if id(packed) not in self._values:
            # Constants cannot hold what is packed.
            value = self.graph.addInput()
            value.setType(torch._C.TensorType.get())
            self._values[id(packed)] = value
            self.inputs.append(packed)
        return self._values[id(packed)]


def fuse(packed: PackedGraph, boldly: bool) -> int:
    """Replaces every linear layer; returns how many there were.

    Args:
        packed: its graph is edited.
        boldly: also takes in what is right only if shapes are as they nearly always are.
    """
    linears = [node for node in all_nodes(packed.graph) if is_packable(node)]
    groups: dict[tuple[int, bool], list[Node]] = {}
    for node in linears:
        if _fuse_activation(packed, node) or (boldly and _fuse_binary(packed, node)):
            continue
        has_bias = constant_tensor(node.inputsAt(2)) is not None
        groups.setdefault((node.inputsAt(0).unique(), has_bias), []).append(node)
    for first, *others in groups.values():
        movable = [node for node in others if boldly and moves_safely(first, node)]
        _replace_joined(packed, [first, *movable])
        for node in others:
            if node not in movable:
                _replace_joined(packed, [node])
    return len(linears)


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
    value = packed.input_for([_matrix(linear)])
    output = insert(packed.graph, last, template, given, value, vector, *others)
    last.output().replaceAllUsesWith(output)


def _replace_joined(packed: PackedGraph, linears: list[Node]) -> None:
    """Puts one operator for layers that read the same input, and splits what it gives."""
    plain = _UNARY.format(function="none", form="none")
    first = linears[0]
    if len(linears) == 1:
        _replace(packed, first, first, plain)
        return
    weights = [_matrix(node) for node in linears]
    biases = [constant_tensor(node.inputsAt(2)) for node in linears]
    vectors = [each for each in biases if each is not None]
    bias = packed.weights.cast(torch.cat(vectors) if vectors else None)
    graph = packed.graph
    vector = insert_constant(graph, first, bias)
    output = insert(graph, first, plain, first.inputsAt(0), packed.input_for(weights), vector)
    start = 0
    for node, weight in zip(linears, weights, strict=True):
        bounds = (insert_constant(graph, first, at) for at in (start, start + len(weight)))
        node.output().replaceAllUsesWith(insert(graph, first, _PART, output, *bounds))
        start += len(weight)


def _matrix(linear: Node) -> torch.Tensor:
    weight = constant_tensor(linear.inputsAt(1))
    assert weight is not None
    return weight
