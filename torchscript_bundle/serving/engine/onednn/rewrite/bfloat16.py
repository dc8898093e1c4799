"""Run a packed graph in bfloat16 from one linear layer to the next.

Layers over packed bfloat16 weights take and give bfloat16. Between them, operators that gain from
bfloat16 run in it if all their operands are bfloat16; every other operator gets float32, as in the
saved module. Layer norms read and give bfloat16 and compute in float32.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch

from torchscript_bundle.serving.engine.comparison import UnavailableError
from torchscript_bundle.serving.engine.onednn import ir
from torchscript_bundle.serving.engine.onednn.edited_graph import EditedGraph
from torchscript_bundle.serving.engine.onednn.rewrite.attention_products import (
    ATTENTION,
    choose_products,
)
from torchscript_bundle.serving.engine.onednn.rewrite.linear_fusion import PACKED_LINEAR, is_binary

#: dtype -> its number in TorchScript.
NUMBERS = {torch.float32: 6, torch.bfloat16: 15}

_CAST = """graph(%input):
  %dtype : int = prim::Constant[value={number}]()
  %no : bool = prim::Constant[value=0]()
  %format : NoneType = prim::Constant()
  %output : Tensor = aten::to(%input, %dtype, %no, %no, %format)
  return (%output)"""

#: Operators that move numbers and compute nothing.
MOVING = (  # noqa: SIM905
    "aten::cat aten::chunk aten::contiguous aten::expand aten::flatten aten::permute aten::reshape "
    "aten::select aten::slice aten::split aten::split_with_sizes aten::squeeze aten::transpose "
    "aten::unbind aten::unsqueeze aten::view prim::ConstantChunk prim::ListUnpack"
).split()
COMPUTING = ("aten::gelu", "aten::relu", "aten::silu", "aten::tanh", "aten::layer_norm")
#: Operators that run in bfloat16 -> the arguments that must be bfloat16 too.
FOLLOWERS: dict[str, tuple[int, ...]] = {
    "aten::add": (0, 1),
    "aten::mul": (0, 1),
    ATTENTION: (0, 1, 2),
    **dict.fromkeys((*COMPUTING, *MOVING), (0,)),
}
#: An operator and the argument that it casts to the dtype of its output.
CASTING = ("aten::copy_", 1)
#: A list of bfloat16 tensors stays one if it is only concatenated.
LIST = "prim::ListConstruct"
#: Operators whose result does not depend on a tensor's dtype.
ANY_DTYPE = {"aten::size", "aten::dim", "aten::len"}


def run_in_bfloat16(edited: EditedGraph) -> None:
    """Insert the casts that a graph needs; refuse one that writes into a tensor now bfloat16."""
    nodes = list(ir.all_nodes(edited.graph))
    lowering = _Lowering(edited.graph, any(map(ir.writes, nodes)))
    lowering.run(nodes)
    choose_products(edited.graph, lowering.attentions, in_place=lowering.in_place)


@dataclass
class _Lowering:
    """One walk over a graph; `lowered` are the values that are bfloat16 now.

    `in_place`: some operator writes into a tensor, so that an early cast may be out of date.
    """

    graph: ir.Graph
    in_place: bool
    lowered: set[int] = field(default_factory=set)
    casts: dict[tuple[int, torch.dtype], ir.Value] = field(default_factory=dict)
    attentions: list[ir.Node] = field(default_factory=list)

    def run(self, nodes: list[ir.Node]) -> None:
        """Visit nodes in order, then the results of blocks and of the graph."""
        for node in nodes:
            self._visit(node)
        for node in nodes:
            for block in node.blocks():
                self._read_float32(block.returnNode())
        self._read_float32(self.graph.return_node())

    def _visit(self, node: ir.Node) -> None:
        if node.kind() == PACKED_LINEAR:
            self._read_bfloat16(node)
        elif not self._follows(node):
            if node.kind() not in ANY_DTYPE:
                self._read_float32(node)
            return
        elif node.kind() == ATTENTION:
            self.attentions.append(node)
        self.lowered.update(value.unique() for value in node.outputs())

    def _follows(self, node: ir.Node) -> bool:
        """Tell whether an operator runs in bfloat16 because its operands are bfloat16."""
        values = list(node.inputs())
        operands: Iterable[int] = FOLLOWERS.get(node.kind(), ())
        if node.kind() == LIST:
            concatenated = all(use.user.kind() == "aten::cat" for use in node.output().uses())
            operands = range(len(values)) if concatenated else ()
        return bool(operands) and all(values[at].unique() in self.lowered for at in operands)

    def _read_bfloat16(self, layer: ir.Node) -> None:
        for at in (0, 1) if is_binary(layer) else (0,):
            value = layer.inputsAt(at)
            if value.unique() not in self.lowered:
                layer.replaceInput(at, self._cast(value, torch.bfloat16, layer))

    def _read_float32(self, node: ir.Node) -> None:
        for at, value in enumerate(list(node.inputs())):
            if value.unique() not in self.lowered or (node.kind(), at) == CASTING:
                continue
            if ir.writes(node) or value.type().kind() != "TensorType":
                raise UnavailableError(f"{node.kind()} takes torch.bfloat16 in a way not known")
            node.replaceInput(at, self._cast(value, torch.float32, node))

    def _cast(self, value: ir.Value, dtype: torch.dtype, reader: ir.Node) -> ir.Value:
        template = _CAST.format(number=NUMBERS[dtype])
        if self.in_place or value.node().kind() == "prim::Param":
            return ir.insert(self.graph, reader, template, value)
        key = value.unique(), dtype
        if key not in self.casts:
            self.casts[key] = ir.insert(self.graph, ir.next_node(value.node()), template, value)
        return self.casts[key]
