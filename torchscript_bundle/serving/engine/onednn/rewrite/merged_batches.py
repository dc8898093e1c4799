"""One graph for several batches, each padded to its own length, whose linear layers run as one.

A linear layer works token by token, so that it may take the tokens of all batches at once: its
weights are read once, and its product is large. Everything else, attention above all, runs batch by
batch as the model wrote it, and meets no more padding than its own batch has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch

from torchscript_bundle.serving.engine.comparison import NotPackedError
from torchscript_bundle.serving.engine.onednn.find.linears import is_packable, packable
from torchscript_bundle.serving.engine.onednn.graph_editing import (
    Graph,
    Node,
    Value,
    all_nodes,
    constant_of,
    constant_tensor,
    insert,
    insert_constant,
    writes,
)
from torchscript_bundle.serving.engine.onednn.rewrite.linear_fusion import ACTIVATIONS, BINARIES

LAYER_NORM = "aten::layer_norm"

_FLAT = """graph(%input):
  %any : int = prim::Constant[value=-1]()
  %features : int = aten::size(%input, %any)
  %shape : int[] = prim::ListConstruct(%any, %features)
  %output : Tensor = aten::reshape(%input, %shape)
  return (%output)"""

_ROWS = """graph(%input):
  %first : int = prim::Constant[value=0]()
  %rows : int = aten::size(%input, %first)
  return (%rows)"""

_SUM = """graph(%one : int, %other : int):
  %sum : int = aten::add(%one, %other)
  return (%sum)"""

_LEAD = """graph(%input):
  %start : int = prim::Constant[value=0]()
  %end : int = prim::Constant[value=-1]()
  %step : int = prim::Constant[value=1]()
  %shape : int[] = aten::size(%input)
  %lead : int[] = aten::slice(%shape, %start, %end, %step)
  return (%lead)"""

_PART = """graph(%rows, %start : int, %end : int, %lead : int[]):
  %first : int = prim::Constant[value=0]()
  %one : int = prim::Constant[value=1]()
  %last : int = prim::Constant[value=-1]()
  %features : int = aten::size(%rows, %last)
  %tail : int[] = prim::ListConstruct(%features)
  %shape : int[] = aten::add(%lead, %tail)
  %part : Tensor = aten::slice(%rows, %first, %start, %end, %one)
  %output : Tensor = aten::reshape(%part, %shape)
  return (%output)"""


def join_batches(graph: Graph, count: int, boldly: bool) -> Graph:
    """A graph that takes the arguments of `count` batches one after the other.

    Args:
        graph: of one batch, with linear layers as `aten::linear`. It is left as it is.
        count: of batches.
        boldly: also takes the two values of a sum or product to have as many rows as each other,
            as they nearly always have.

    Returns:
        A graph that gives a tuple of what `graph` gives for each batch.

    Raises:
        NotPackedError: a linear layer runs in a loop or branch, or something may be written into
            what batches share.
    """
    if len(packable(graph)) != sum(map(is_packable, graph.nodes())):
        raise NotPackedError("a linear layer runs in a loop or branch")
    walk = _Walk(torch._C.Graph(), count, boldly)
    return walk.run(graph)


@dataclass(frozen=True)
class _Layout:
    """How rows of all batches stand in one tensor.

    Attributes:
        ends: where each batch's rows begin, and where the last end; `int`.
        leads: each batch's dimensions but the last, `int[]`.
    """

    ends: list[Value]
    leads: list[Value]


@dataclass(frozen=True)
class _Joined:
    """Rows `[all batches' rows, features]` in one tensor."""

    rows: Value
    layout: _Layout


@dataclass
class _Walk:
    """One walk over a graph, which writes another.

    Attributes:
        graph: the other.
        count: of batches.
        boldly: as in `join_batches`.
        values: for each batch, a value of the first graph -> what it is for this batch.
        joined: a value of the first graph -> what it is for all batches.
    """

    graph: Graph
    count: int
    boldly: bool
    values: list[dict[int, Value]] = field(default_factory=list)
    joined: dict[int, _Joined] = field(default_factory=dict)

    def run(self, source: Graph) -> Graph:
        for _ in range(self.count):
            self.values.append({each.unique(): self._input(each) for each in source.inputs()})
        self.graph.setInsertPoint(self.graph.return_node())
        for node in source.nodes():
            self._visit(node)
        for batch in range(self.count):
            for output in source.outputs():
                self.graph.registerOutput(self._of(batch, output))
        self.graph.makeMultiOutputIntoTuple()
        return self.graph

    def _input(self, original: Value) -> Value:
        value = self.graph.addInput()
        value.setType(original.type())
        return value

    def _visit(self, node: Node) -> None:
        if node.kind() == "prim::Constant":
            constant = self._clone(node, lambda value: value).output()
            for values in self.values:
                values[node.output().unique()] = constant
        elif is_packable(node) or self._works_on_rows(node):
            self.joined[node.output().unique()] = self._at_once(node)
        elif self.joined and any(map(writes, [node, *_inside(node)])):
            raise NotPackedError(f"{node.kind()} may write into what batches share")
        else:
            for batch in range(self.count):
                outputs = self._clone(node, partial(self._of, batch)).outputs()
                pairs = zip(node.outputs(), outputs, strict=True)
                self.values[batch].update({old.unique(): new for old, new in pairs})

    def _works_on_rows(self, node: Node) -> bool:
        """Whether an operator takes joined rows, and gives each what it gives it alone."""
        inputs = list(node.inputs())
        joined = [each for each in inputs if each.unique() in self.joined]
        others = [each for each in inputs if not (each in joined or _is_of_features(each))]
        if node.kind() in BINARIES:
            same = self.boldly and all(map(_is_computed_tensor, others))
            return bool(joined) and (same or (len(joined) == 1 and not others))
        if node.kind() == LAYER_NORM:
            shape = constant_of(node.inputsAt(1))
            return bool(joined) and not others and isinstance(shape, list) and len(shape) == 1
        return bool(joined) and not others and node.kind() in ACTIVATIONS

    def _at_once(self, node: Node) -> _Joined:
        """An operator, once for all batches."""
        layouts = []

        def rows_of(value: Value) -> Value:
            if value.node().kind() == "prim::Constant":
                return self.values[0][value.unique()]
            if value.unique() not in self.joined:
                self.joined[value.unique()] = self._join(value)
            layouts.append(self.joined[value.unique()].layout)
            return self.joined[value.unique()].rows

        return _Joined(self._clone(node, rows_of).output(), layouts[0])

    def _join(self, value: Value) -> _Joined:
        """Puts the rows of all batches into one tensor."""
        end = self.graph.return_node()
        parts = [self._of(batch, value) for batch in range(self.count)]
        flat = [insert(self.graph, end, _FLAT, part) for part in parts]
        ends = [insert_constant(self.graph, end, 0)]
        for each in flat:
            rows = insert(self.graph, end, _ROWS, each)
            ends.append(insert(self.graph, end, _SUM, ends[-1], rows))
        leads = [insert(self.graph, end, _LEAD, part) for part in parts]
        return _Joined(insert(self.graph, end, _cat(self.count), *flat), _Layout(ends, leads))

    def _of(self, batch: int, value: Value) -> Value:
        """What a value is for one batch."""
        known, key = self.values[batch], value.unique()
        if key not in known:
            joined, layout = self.joined[key].rows, self.joined[key].layout
            bounds = layout.ends[batch], layout.ends[batch + 1]
            end = self.graph.return_node()
            known[key] = insert(self.graph, end, _PART, joined, *bounds, layout.leads[batch])
        return known[key]

    def _clone(self, node: Node, value_of: Callable[[Value], Value]) -> Node:
        clone = self.graph.createClone(node, value_of)  # type: ignore[attr-defined]
        return self.graph.insertNode(clone)


def _inside(node: Node) -> list[Node]:
    return [each for block in node.blocks() for each in all_nodes(block)]


def _is_of_features(value: Value) -> bool:
    """Whether a value is a constant that means the same for every row."""
    tensor = constant_tensor(value)
    return value.node().kind() == "prim::Constant" and (tensor is None or tensor.dim() <= 1)


def _is_computed_tensor(value: Value) -> bool:
    return value.node().kind() != "prim::Constant" and value.type().kind() == "TensorType"


def _cat(count: int) -> str:
    names = ", ".join(f"%part{number}" for number in range(count))
    return f"""graph({names}):
  %dimension : int = prim::Constant[value=0]()
  %parts : Tensor[] = prim::ListConstruct({names})
  %output : Tensor = aten::cat(%parts, %dimension)
  return (%output)"""
