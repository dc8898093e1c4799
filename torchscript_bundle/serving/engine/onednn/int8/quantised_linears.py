"""Replace linear layers with calibrated input ranges by oneDNN's int8 layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch

from torchscript_bundle.serving.engine.comparison import UnavailableError
from torchscript_bundle.serving.engine.onednn import ir
from torchscript_bundle.serving.engine.onednn.edited_graph import EditedGraph
from torchscript_bundle.serving.engine.onednn.find.linears import packable_linears, weight_of
from torchscript_bundle.serving.engine.onednn.int8.calibration import Calibration, LayerRange
from torchscript_bundle.serving.engine.onednn.int8.quantised_weights import (
    Quantisation,
    QuantisedWeights,
)
from torchscript_bundle.serving.engine.onednn.rewrite.linear_fusion import (
    Fusion,
    bias_of,
    replace_linears,
)

INT8_LINEAR = "onednn::qlinear_pointwise"
QUANTISE = "aten::quantize_per_tensor"

#: Fewer outputs, as of a classifier's head, gain nothing, and their rounding shows in the scores.
FEWEST_OUTPUTS = 16
#: TorchScript's number of uint8.
UINT8 = 0

# set_ reads the memory as uint8; aten::int_repr would copy it, ten times as slow as quantising.
_QUANTISE = f"""graph(%input, %scale : float, %zero_point : int):
  {ir.constants(quint8=13, uint8=UINT8, start=0, none=None, no=False)}
  %nothing : int[] = prim::ListConstruct(%start)
  %quantised : Tensor = {QUANTISE}(%input, %scale, %zero_point, %quint8)
  %empty : Tensor = aten::empty(%nothing, %uint8, %none, %none, %no, %none)
  %size : int[] = aten::size(%quantised)
  %stride : int[] = aten::stride(%quantised)
  %output : Tensor = aten::set_(%empty, %quantised, %start, %size, %stride)
  return (%output)"""

_MULTIPLY = """graph(%input, %factors):
  %output : Tensor = aten::mul(%input, %factors)
  return (%output)"""

_LAYER = f"""graph(%input, %scale : float, %zero_point : int, %packed, %scales, %zeros, %bias):
  {ir.constants(output_scale=1.0, output_zero_point=0, float32=6)}
  %function : str = prim::Constant[value="{{function}}"]()
  %scalars : Scalar?[] = prim::ListConstruct()
  %algorithm : str = prim::Constant[value="{{algorithm}}"]()
  %output : Tensor = {INT8_LINEAR}(
    %input, %scale, %zero_point, %packed, %scales, %zeros, %bias,
    %output_scale, %output_zero_point, %float32, %function, %scalars, %algorithm)
  return (%output)"""

#: Positions of an int8 layer's arguments.
OUTPUT_SCALE, OUTPUT_ZERO_POINT, OUTPUT_DTYPE = 7, 8, 9


def quantise_linears(
    edited: EditedGraph, weights: QuantisedWeights, calibration: Calibration
) -> None:
    """Replace calibrated, large linear layers; refuse the calibration of another graph."""
    ranges = _ranges(edited.graph, calibration)
    if not ranges:
        raise UnavailableError(f"{edited.name} has no linear layer that is worth int8")
    replace_linears(edited, _Int8Layers(weights, ranges), list(ranges))
    torch._C._jit_pass_dce(edited.graph)
    _keep_uint8(edited.graph)


def _ranges(graph: ir.Graph, calibration: Calibration) -> dict[ir.Node, LayerRange]:
    """Match linear layers with calibrated ones; leave out those that int8 does not speed up."""
    nodes, layers = packable_linears(graph), calibration.layers
    if len(nodes) != len(layers):
        raise UnavailableError(
            f"the calibration is of {len(layers)} linear layers, and the module has {len(nodes)}: "
            "calibrate it again"
        )
    ranges = {}
    for number, (node, layer) in enumerate(zip(nodes, layers, strict=True)):
        if not layer.is_of(weight_of(node)):
            raise UnavailableError(
                f"linear layer {number} is not the one that was calibrated: calibrate it again"
            )
        if layer.low is not None and layer.high is not None and layer.outputs >= FEWEST_OUTPUTS:
            ranges[node] = layer
    return ranges


@dataclass(frozen=True)
class _Int8Layers:
    """oneDNN's int8 layers, with the calibrated range of each linear layer's input."""

    weights: QuantisedWeights
    ranges: Mapping[ir.Node, LayerRange]
    fuses_binaries: ClassVar[bool] = False

    def insert(self, edited: EditedGraph, linears: Sequence[ir.Node], fusion: Fusion) -> ir.Value:
        """Insert one over a quantised weight of all the layers, and the quantising of its input."""
        read = [self.ranges[node] for node in linears]
        divisors = read[0].divisors
        weight = self.weights.quantise([weight_of(node) for node in linears], divisors)
        activations = Quantisation.of_range(
            min(each.low for each in read if each.low is not None),
            max(each.high for each in read if each.high is not None),
        )
        insert_before = partial(ir.insert, edited.graph, fusion.last)
        constant = partial(ir.insert_constant, edited.graph, fusion.last)
        scale, zero_point = constant(activations.scale), constant(activations.zero_point)
        others = [constant(each) for each in (weight.scales, weight.zero_points, bias_of(linears))]
        given = linears[0].inputsAt(0)
        if divisors is not None:
            given = insert_before(_MULTIPLY, given, constant(1 / torch.tensor(divisors)))
        quantised = insert_before(_QUANTISE, given, scale, zero_point)
        packed = edited.input_for(weight.packed)
        template = _LAYER.format(function=fusion.function, algorithm=fusion.algorithm)
        return insert_before(template, quantised, scale, zero_point, packed, *others)


def _keep_uint8(graph: ir.Graph) -> None:
    """Let a layer whose output is only quantised return the uint8 that the next layer reads."""
    unused: list[ir.Node] = []
    for node in ir.nodes_of(graph, INT8_LINEAR):
        user = ir.only_user(node.output())
        if user is None or user.kind() != QUANTISE or not ir.moves_safely(node, user):
            continue
        scale, zero_point = (ir.constant_of(user.inputsAt(at)) for at in (1, 2))
        outputs = {OUTPUT_SCALE: scale, OUTPUT_ZERO_POINT: zero_point, OUTPUT_DTYPE: UINT8}
        for at, value in outputs.items():
            node.replaceInput(at, ir.insert_constant(graph, node, value))
        for use in user.output().uses():
            if use.user.kind() == "aten::set_":
                use.user.output().replaceAllUsesWith(node.output())
                unused.append(use.user)
    for node in unused:
        # Dead code elimination would keep it, since it writes.
        node.destroy()
