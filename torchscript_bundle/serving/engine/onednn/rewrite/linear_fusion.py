"""Replace each linear layer, with its next operator, by one operator over packed weights.

`replace_linears` serves float and int8 weights alike; `FloatLayers` are oneDNN's float ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch

from torchscript_bundle.serving.engine.onednn import ir
from torchscript_bundle.serving.engine.onednn.edited_graph import EditedGraph
from torchscript_bundle.serving.engine.onednn.find.linears import packable_linears, weight_of
from torchscript_bundle.serving.engine.onednn.packed_weights import PackedWeights, concatenate

PACKED_LINEAR = "mkldnn::_linear_pointwise"

_UNARY = """graph(%input, %packed, %bias):
  %function : str = prim::Constant[value="{function}"]()
  %scalars : Scalar?[] = prim::ListConstruct()
  %algorithm : str = prim::Constant[value="{algorithm}"]()
  %output : Tensor = mkldnn::_linear_pointwise(
    %input, %packed, %bias, %function, %scalars, %algorithm)
  return (%output)"""

_BINARY = """graph(%input, %packed, %bias, %other):
  %function : str = prim::Constant[value="{function}"]()
  %output : Tensor = mkldnn::_linear_pointwise(%input, %other, %packed, %bias, %function)
  return (%output)"""

_SLICE = f"""graph(%input, %start, %end):
  {ir.constants(dimension=-1, step=1)}
  %output : Tensor = aten::slice(%input, %dimension, %start, %end, %step)
  return (%output)"""

#: Activation -> oneDNN's name of it. GELU has an algorithm besides.
ACTIVATIONS = {
    "aten::gelu": "gelu",
    "aten::relu": "relu",
    "aten::silu": "swish",
    "aten::tanh": "tanh",
}
#: Operators on a layer's output and a tensor of its shape -> oneDNN's name.
BINARIES = {"aten::add": "add", "aten::mul": "mul"}


@dataclass(frozen=True)
class Fusion:
    """A linear layer's operator also computes `function` (oneDNN's name) up to the node `last`.

    `algorithm` is GELU's, "tanh" or "none"; `other` is the second operand of a sum or product.
    """

    last: ir.Node
    function: str = "none"
    algorithm: object = "none"
    other: ir.Value | None = None


class Layers(Protocol):
    """Operators over packed weights that take the place of linear layers.

    `fuses_binaries` says whether one also computes a sum or product with a tensor of its shape.
    """

    fuses_binaries: ClassVar[bool]

    def insert(self, edited: EditedGraph, linears: Sequence[ir.Node], fusion: Fusion) -> ir.Value:
        """Insert one for layers that read one input, at `fusion.last`; return its output."""


class FloatLayers:
    """oneDNN's layers in float32 or bfloat16."""

    fuses_binaries: ClassVar[bool] = True

    def __init__(self, dtype: torch.dtype) -> None:
        self._weights = PackedWeights(dtype)

    def insert(self, edited: EditedGraph, linears: Sequence[ir.Node], fusion: Fusion) -> ir.Value:
        """Insert one over a packed weight of all the layers."""
        graph, last = edited.graph, fusion.last
        bias = bias_of(linears)
        bias = bias if bias is None else bias.to(self._weights.dtype)
        vector = ir.insert_constant(graph, last, bias)
        weight = edited.input_for(self._weights.pack([weight_of(node) for node in linears]))
        others = () if fusion.other is None else (fusion.other,)
        template = (_BINARY if others else _UNARY).format(
            function=fusion.function, algorithm=fusion.algorithm
        )
        return ir.insert(graph, last, template, linears[0].inputsAt(0), weight, vector, *others)


def replace_linears(
    edited: EditedGraph, layers: Layers, linears: list[ir.Node] | None = None
) -> None:
    """Replace linear layers, all by default, each with the operator after it where one may be."""
    linears = packable_linears(edited.graph) if linears is None else linears
    fuse_binaries = layers.fuses_binaries and edited.assume_same_shape
    alone = []
    for linear in linears:
        fusion = _fusion_after(linear, fuse_binaries=fuse_binaries)
        if fusion is None:
            alone.append(linear)
        else:
            fusion.last.output().replaceAllUsesWith(layers.insert(edited, [linear], fusion))
    for group in _reading_one_input(alone, join=edited.assume_same_shape):
        _split(edited.graph, layers.insert(edited, group, Fusion(group[0])), group)
    edited.linears += len(linears)


def _fusion_after(linear: ir.Node, *, fuse_binaries: bool) -> Fusion | None:
    user = ir.only_user(linear.output())
    if user is None or not ir.moves_safely(linear, user):
        return None
    if user.kind() in ACTIVATIONS:
        algorithm = ir.constant_of(user.inputsAt(1)) if user.kind() == "aten::gelu" else "none"
        return Fusion(user, ACTIVATIONS[user.kind()], algorithm)
    if not fuse_binaries or user.kind() not in BINARIES:
        return None
    if user.kind() == "aten::add" and ir.constant_of(user.inputsAt(2)) != 1:
        return None
    other = user.inputsAt(1 if user.inputsAt(0) == linear.output() else 0)
    if other.type().kind() != "TensorType" or other.node().kind() == "prim::Constant":
        return None
    return Fusion(user, BINARIES[user.kind()], other=other)


def _reading_one_input(linears: list[ir.Node], *, join: bool) -> Iterator[list[ir.Node]]:
    """Yield groups of layers that read one input, each of which may run where its first does."""
    groups: dict[tuple[int, bool], list[ir.Node]] = {}
    for node in linears:
        has_bias = ir.constant_tensor(node.inputsAt(2)) is not None
        groups.setdefault((node.inputsAt(0).unique(), has_bias), []).append(node)
    for first, *others in groups.values():
        movable = [node for node in others if join and ir.moves_safely(first, node)]
        yield [first, *movable]
        yield from ([node] for node in others if node not in movable)


def bias_of(linears: Sequence[ir.Node]) -> torch.Tensor | None:
    """Return the concatenated biases `[out]` of layers of which all have one, or none."""
    biases = [ir.constant_tensor(node.inputsAt(2)) for node in linears]
    vectors = [each for each in biases if each is not None]
    return concatenate(vectors) if vectors else None


def _split(graph: ir.Graph, joined: ir.Value, linears: list[ir.Node]) -> None:
    """Give each layer's readers its slice of the output of one operator for all layers."""
    if len(linears) == 1:
        linears[0].output().replaceAllUsesWith(joined)
        return
    start = 0
    for node in linears:
        end = start + len(weight_of(node))
        bounds = (ir.insert_constant(graph, linears[0], at) for at in (start, end))
        node.output().replaceAllUsesWith(ir.insert(graph, linears[0], _SLICE, joined, *bounds))
        start = end


def is_binary(layer: ir.Node) -> bool:
    """Tell whether a packed layer takes a second operand, before its weight."""
    return layer.inputsAt(4).type().kind() == "StringType"
