"""Replaces linear layers whose input's range is known by oneDNN's int8 ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from torchscript_bundle.serving.engine.comparison import NotPackedError
from torchscript_bundle.serving.engine.onednn.find.linears import weight_of
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
    nodes_of,
    only_user,
)
from torchscript_bundle.serving.engine.onednn.int8.calibration import Calibration, LayerRange
from torchscript_bundle.serving.engine.onednn.int8.observers import quantisable
from torchscript_bundle.serving.engine.onednn.int8.quantised_weights import (
    Quantisation,
    QuantisedWeights,
)
from torchscript_bundle.serving.engine.onednn.rewrite.linear_fusion import (
    ACTIVATIONS,
    reading_the_same,
    split,
)

LAYER = "onednn::qlinear_pointwise"
QUANTISE = "aten::quantize_per_tensor"

#: Fewer outputs gain nothing (a classifier's head), and their rounding is the answer's.
FEWEST_OUTPUTS = 16

# aten::int_repr would copy the numbers, ten times as slowly as they are made; the same memory is
# read as uint8 instead.
_QUANTISE = f"""graph(%input, %scale : float, %zero : int):
  %quint8 : int = prim::Constant[value=13]()
  %uint8 : int = prim::Constant[value=0]()
  %start : int = prim::Constant[value=0]()
  %none : NoneType = prim::Constant()
  %no : bool = prim::Constant[value=0]()
  %nothing : int[] = prim::ListConstruct(%start)
  %quantised : Tensor = {QUANTISE}(%input, %scale, %zero, %quint8)
  %empty : Tensor = aten::empty(%nothing, %uint8, %none, %none, %no, %none)
  %size : int[] = aten::size(%quantised)
  %stride : int[] = aten::stride(%quantised)
  %output : Tensor = aten::set_(%empty, %quantised, %start, %size, %stride)
  return (%output)"""

_MULTIPLY = """graph(%input, %factors):
  %output : Tensor = aten::mul(%input, %factors)
  return (%output)"""

_LAYER = f"""graph(%input, %scale : float, %zero : int, %packed, %scales, %zeros, %bias):
  %output_scale : float = prim::Constant[value=1.]()
  %output_zero : int = prim::Constant[value=0]()
  %float32 : int = prim::Constant[value=6]()
  %function : str = prim::Constant[value="{{function}}"]()
  %scalars : Scalar?[] = prim::ListConstruct()
  %form : str = prim::Constant[value="{{form}}"]()
  %output : Tensor = {LAYER}(
    %input, %scale, %zero, %packed, %scales, %zeros, %bias,
    %output_scale, %output_zero, %float32, %function, %scalars, %form)
  return (%output)"""

#: Where an int8 layer's arguments stand.
OUTPUT_SCALE, OUTPUT_ZERO, OUTPUT_DTYPE = 7, 8, 9
#: uint8's number in TorchScript.
UINT8 = 0


@dataclass(frozen=True)
class Int8Graph:
    """A graph whose linear layers become int8.

    Attributes:
        graph: is edited.
        weights: quantises.
        inputs: the graph's inputs that hold packed weights.
        ranges: layer -> what it reads.
    """

    graph: Graph
    weights: QuantisedWeights
    inputs: PackedInputs
    ranges: dict[Node, LayerRange]


def ranges_of(graph: Graph, calibration: Calibration) -> dict[Node, LayerRange]:
    """Linear layers that are calibrated and large enough, and what each reads.

    Raises:
        NotPackedError: the calibration is of another graph.
    """
    nodes, layers = quantisable(graph), calibration.layers
    if len(nodes) != len(layers):
        raise NotPackedError(
            f"the calibration is of {len(layers)} linear layers, and the module has {len(nodes)}: "
            "calibrate it again"
        )
    ranges = {}
    for number, (node, layer) in enumerate(zip(nodes, layers, strict=True)):
        if not layer.is_of(weight_of(node)):
            raise NotPackedError(
                f"linear layer {number} is not the one that was calibrated: calibrate it again"
            )
        if layer.low is not None and layer.high is not None and layer.outputs >= FEWEST_OUTPUTS:
            ranges[node] = layer
    return ranges


def quantise(graph: Int8Graph, boldly: bool) -> None:
    """Replaces linear layers whose range is known.

    Args:
        graph: is edited.
        boldly: joins layers that read the same.
    """
    plain = [node for node in graph.ranges if not _fuse_activation(graph, node)]
    for group in reading_the_same(plain, boldly):
        template = _LAYER.format(function="none", form="none")
        split(graph.graph, _insert_layer(graph, group[0], group, template), group)
    torch._C._jit_pass_dce(graph.graph)
    _pass_on_uint8(graph.graph)
    torch._C._jit_pass_dce(graph.graph)


def _fuse_activation(graph: Int8Graph, linear: Node) -> bool:
    user = only_user(linear.output())
    if user is None or user.kind() not in ACTIVATIONS or not moves_safely(linear, user):
        return False
    form = constant_of(user.inputsAt(1)) if user.kind() == "aten::gelu" else "none"
    template = _LAYER.format(function=ACTIVATIONS[user.kind()], form=form)
    user.output().replaceAllUsesWith(_insert_layer(graph, user, [linear], template))
    return True


def _insert_layer(graph: Int8Graph, before: Node, linears: list[Node], template: str) -> Value:
    """Puts one operator for layers that read the same input."""
    ranges = [graph.ranges[node] for node in linears]
    weight = graph.weights.quantise([weight_of(node) for node in linears], ranges[0].divisors)
    biases = [constant_tensor(node.inputsAt(2)) for node in linears]
    vectors = [each.detach() for each in biases if each is not None]
    read = Quantisation.of_range(
        min(each.low for each in ranges if each.low is not None),
        max(each.high for each in ranges if each.high is not None),
    )
    numbers = (read.scale, read.zero, weight.scales, weight.zeros)
    bias = torch.cat(vectors) if vectors else None
    scale, zero, *others = (insert_constant(graph.graph, before, each) for each in (*numbers, bias))
    given = linears[0].inputsAt(0)
    if ranges[0].divisors is not None:
        factors = insert_constant(graph.graph, before, 1 / torch.tensor(ranges[0].divisors))
        given = insert(graph.graph, before, _MULTIPLY, given, factors)
    quantised = insert(graph.graph, before, _QUANTISE, given, scale, zero)
    packed = graph.inputs.holding(weight.packed)
    return insert(graph.graph, before, template, quantised, scale, zero, packed, *others)


def _pass_on_uint8(graph: Graph) -> None:
    """Lets a layer whose output is only quantised give what the next layer reads."""
    unused: list[Node] = []
    for node in nodes_of(graph, LAYER):
        user = only_user(node.output())
        if user is None or user.kind() != QUANTISE or not moves_safely(node, user):
            continue
        scale, zero = (constant_of(user.inputsAt(at)) for at in (1, 2))
        for at, value in ((OUTPUT_SCALE, scale), (OUTPUT_ZERO, zero), (OUTPUT_DTYPE, UINT8)):
            node.replaceInput(at, insert_constant(graph, node, value))
        for use in user.output().uses():
            if use.user.kind() == "aten::set_":
                use.user.output().replaceAllUsesWith(node.output())
                unused.append(use.user)
    for node in unused:
        # It writes, so that dead code elimination would leave it.
        node.destroy()
