"""Lets a packed graph run in bfloat16 from one linear layer to the next.

Packed layers of bfloat16 weights take and give bfloat16. Between them, operators that gain from it
run in bfloat16 as long as all that they read is; every other operator gets float32, as it had.
Layer norms read and give bfloat16 and calculate in float32.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch

from torchscript_bundle.serving.engine.comparison import NotPackedError
from torchscript_bundle.serving.engine.onednn.graph_editing import (
    Graph,
    Node,
    Value,
    all_nodes,
    insert,
    next_node,
    writes,
)
from torchscript_bundle.serving.engine.onednn.rewrite.attention_products import (
    ATTENTION,
    choose_products,
)
from torchscript_bundle.serving.engine.onednn.rewrite.linear_fusion import UNARY

#: dtype -> its number in TorchScript.
NUMBERS = {torch.float32: 6, torch.bfloat16: 15}

_CAST = """graph(%input):
  %dtype : int = prim::Constant[value={number}]()
  %no : bool = prim::Constant[value=0]()
  %format : NoneType = prim::Constant()
  %output : Tensor = aten::to(%input, %dtype, %no, %no, %format)
  return (%output)"""

#: Operators -> which arguments are activations. Those run in bfloat16 where all of these are.
FOLLOWERS: dict[str, tuple[int, ...]] = {
    "aten::add": (0, 1),
    "aten::mul": (0, 1),
    "aten::gelu": (0,),
    "aten::relu": (0,),
    "aten::silu": (0,),
    "aten::tanh": (0,),
    "aten::layer_norm": (0,),
    ATTENTION: (0, 1, 2),
    # These move numbers and calculate nothing.
    "aten::cat": (0,),
    "aten::chunk": (0,),
    "aten::contiguous": (0,),
    "aten::expand": (0,),
    "aten::flatten": (0,),
    "aten::permute": (0,),
    "aten::reshape": (0,),
    "aten::select": (0,),
    "aten::slice": (0,),
    "aten::split": (0,),
    "aten::split_with_sizes": (0,),
    "aten::squeeze": (0,),
    "aten::transpose": (0,),
    "aten::unbind": (0,),
    "aten::unsqueeze": (0,),
    "aten::view": (0,),
    "prim::ConstantChunk": (0,),
    "prim::ListUnpack": (0,),
}
#: An operator and its argument that is copied into a tensor of another dtype as it is.
COPIED = ("aten::copy_", 1)
#: What a list of tensors is made by; one that is only joined is as its members are.
LIST = "prim::ListConstruct"
#: Operators that say the same of a tensor in any dtype.
INDIFFERENT = {"aten::size", "aten::dim", "aten::len"}


def lower(graph: Graph, dtype: torch.dtype) -> None:
    """Inserts the casts that a graph with packed weights of `dtype` needs.

    Raises:
        NotPackedError: an operator writes into a tensor that is now of `dtype`.
    """
    nodes = list(all_nodes(graph))
    lowering = _Lowering(graph, dtype, any(map(writes, nodes)))
    lowering.run(nodes)
    choose_products(graph, lowering.attentions, lowering.in_place)


@dataclass
class _Lowering:
    """One walk over a graph.

    Attributes:
        graph: is edited.
        dtype: the narrow one.
        in_place: whether some operator writes into a tensor, so that a cast made early may be old.
        narrow: values that are of the narrow dtype.
        casts: value and dtype -> the same value in that dtype.
        attentions: those that run in the narrow dtype.
    """

    graph: Graph
    dtype: torch.dtype
    in_place: bool
    narrow: set[int] = field(default_factory=set)
    casts: dict[tuple[int, torch.dtype], Value] = field(default_factory=dict)
    attentions: list[Node] = field(default_factory=list)

    def run(self, nodes: list[Node]) -> None:
        """Visits nodes in order, then what blocks and the graph return."""
        for node in nodes:
            self._visit(node)
        for node in (each for each in nodes if list(each.blocks())):
            for block in node.blocks():
                self._widen(block.returnNode())
        self._widen(self.graph.return_node())

    def _visit(self, node: Node) -> None:
        if node.kind() == UNARY:
            self._lower_inputs(node)
        elif not self._follows(node):
            if node.kind() not in INDIFFERENT:
                self._widen(node)
            return
        elif node.kind() == ATTENTION:
            self.attentions.append(node)
        self.narrow.update(value.unique() for value in node.outputs())

    def _follows(self, node: Node) -> bool:
        values = list(node.inputs())
        activations: Iterable[int] = FOLLOWERS.get(node.kind(), ())
        if node.kind() == LIST:
            only_joined = all(use.user.kind() == "aten::cat" for use in node.output().uses())
            activations = range(len(values)) if only_joined else ()
        return bool(activations) and all(values[at].unique() in self.narrow for at in activations)

    def _lower_inputs(self, layer: Node) -> None:
        """The layer's input and, with a residual, what is added."""
        is_binary = layer.inputsAt(4).type().kind() == "StringType"
        for at in (0, 1) if is_binary else (0,):
            value = layer.inputsAt(at)
            if value.unique() not in self.narrow:
                layer.replaceInput(at, self._cast(value, self.dtype, layer))

    def _widen(self, node: Node) -> None:
        """Gives a node float32 where it read narrow values."""
        for at, value in enumerate(list(node.inputs())):
            if value.unique() not in self.narrow or (node.kind(), at) == COPIED:
                continue
            if writes(node) or value.type().kind() != "TensorType":
                raise NotPackedError(f"{node.kind()} takes {self.dtype} in a way not known")
            node.replaceInput(at, self._cast(value, torch.float32, node))

    def _cast(self, value: Value, dtype: torch.dtype, reader: Node) -> Value:
        template = _CAST.format(number=NUMBERS[dtype])
        maker = value.node()
        if self.in_place or maker.kind() == "prim::Param":
            return insert(self.graph, reader, template, value)
        key = value.unique(), dtype
        if key not in self.casts:
            self.casts[key] = insert(self.graph, next_node(maker), template, value)
        return self.casts[key]
