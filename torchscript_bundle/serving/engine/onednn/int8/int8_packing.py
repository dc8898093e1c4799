"""A loaded module and its calibration -> its method over int8 weights, checked against it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch

from torchscript_bundle.serving.engine.comparison import NotPackedError
from torchscript_bundle.serving.engine.onednn.frozen_graphs import Arguments, Method, function_of
from torchscript_bundle.serving.engine.onednn.graph_editing import Graph, PackedInputs
from torchscript_bundle.serving.engine.onednn.int8.calibration import Calibration
from torchscript_bundle.serving.engine.onednn.int8.int8_fusion import Int8Graph, quantise, ranges_of
from torchscript_bundle.serving.engine.onednn.int8.quantised_weights import QuantisedWeights
from torchscript_bundle.serving.engine.onednn.packed_weights import PackedWeights
from torchscript_bundle.serving.engine.onednn.packing import Packed, Packer, pack_with
from torchscript_bundle.serving.engine.onednn.rewrite.linear_fusion import PackedGraph, fuse

#: Largest difference to the module, of an output's largest value. It catches errors; whether a
#: model bears int8 is asked of its labels, on real texts, before it is served so.
TOLERANCE = 0.5


def pack_int8(
    module: torch.jit.ScriptModule,
    examples: Sequence[Arguments],
    calibration: Calibration,
    counts: Sequence[int] = (),
) -> Packed:
    """Packs the calibrated method into int8; see `pack_methods` for what holds of any packing.

    Layers without a range, and those with few outputs, are packed in float32. Each number's
    rounding is fixed beforehand, so that an answer depends neither on other rows nor on padding.

    Args:
        module: as for `pack_methods`.
        examples: the method's arguments, as there.
        calibration: of this module, see `calibrate`.
        counts: see `pack`.
    """

    def make() -> Packer:
        int8, float32 = QuantisedWeights(), PackedWeights(torch.float32)

        def pack_graph(name: str, graph: Graph, boldly: bool, _: bool) -> tuple[Method, int]:
            ranges = ranges_of(graph, calibration)
            if not ranges:
                raise NotPackedError(f"{name} has no linear layer that is worth int8")
            inputs = PackedInputs(graph)
            quantise(Int8Graph(graph, int8, inputs, ranges), boldly)
            others = fuse(PackedGraph(graph, float32, inputs), boldly)
            torch._C._jit_pass_dce(graph)
            return function_of(name, graph, inputs.tensors), len(ranges) + others

        return pack_graph

    with warnings.catch_warnings():
        # Said once in a process, here: tensors of quint8 are to go. A torch without them has no
        # such operator, and the module runs as it was saved.
        warnings.filterwarnings("ignore", "torch.quantize_per_tensor", UserWarning)
        return pack_with(module, {calibration.method: examples}, make, TOLERANCE, "int8", counts)
