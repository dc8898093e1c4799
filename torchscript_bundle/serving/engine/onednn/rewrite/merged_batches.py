"""Run several batches, each padded to its own length, in one graph with common linear layers.

A linear layer works token by token, so it can take the tokens of all batches at once, in one large
product that reads the weights once. Everything else, attention above all, runs batch by batch, and
sees only the padding of its own batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from torchscript_bundle.serving.engine.comparison import UnavailableError
from torchscript_bundle.serving.engine.onednn import ir
from torchscript_bundle.serving.engine.onednn.find.linears import is_packable, packable_linears
from torchscript_bundle.serving.engine.onednn.rewrite.linear_fusion import ACTIVATIONS, BINARIES

LAYER_NORM = "aten::layer_norm"

_FLAT = """graph(%input):
  %any : int = prim::Constant[value=-1]()
  %features : int = aten::size(%input, %any)
  %shape : int[] = prim::ListConstruct(%any, %features)
  %output : Tensor = aten::reshape(%input, %shape)
  return (%output)"""

_END = """graph(%start : int, %input):
  %first : int = prim::Constant[value=0]()
  %rows : int = aten::size(%input, %first)
  %end : int = aten::add(%start, %rows)
  return (%end)"""

_LEAD = f"""graph(%input):
  {ir.constants(start=0, end=-1, step=1)}
  %shape : int[] = aten::size(%input)
  %lead : int[] = aten::slice(%shape, %start, %end, %step)
  return (%lead)"""

_PART = f"""graph(%rows, %start : int, %end : int, %lead : int[]):
  {ir.constants(first=0, one=1, last=-1)}
  %features : int = aten::size(%rows, %last)
  %tail : int[] = prim::ListConstruct(%features)
  %shape : int[] = aten::add(%lead, %tail)
  %part : Tensor = aten::slice(%rows, %first, %start, %end, %one)
  %output : Tensor = aten::reshape(%part, %shape)
  return (%output)"""


def merge_batches(graph: ir.Graph, count: int, *, assume_same_shape: bool) -> ir.Graph:
    """Return a graph that takes the arguments of `count` batches, and returns a tuple of outputs.

    The given graph, of one batch with linear layers as `aten::linear`, stays unchanged.
    `assume_same_shape` takes the operands of a sum or product to have the same number of rows.
    UnavailableError: a linear layer runs in a loop or branch, or an operator may write into a
    tensor that batches share.
    """
    if len(packable_linears(graph)) != sum(map(is_packable, graph.nodes())):
        raise UnavailableError("a linear layer runs in a loop or branch")
    return _Merger(torch._C.Graph(), count, assume_same_shape).run(graph)


@dataclass(frozen=True)
class _MergedRows:
    """The rows of all batches in one tensor `[all rows, features]`.

    `ends` (int) are the first row of each batch, and the end of the last; `leads` (int[]) each
    batch's dimensions but the last.
    """

    rows: ir.Value
    ends: list[ir.Value]
    leads: list[ir.Value]


@dataclass
class _Merger:
    """One walk over the graph of one batch, which writes the graph of several.

    By the number of a value in the graph of one, `values` has each batch's value here, and `merged`
    its rows in all batches.
    """

    graph: ir.Graph
    count: int
    assume_same_shape: bool
    values: list[dict[int, ir.Value]] = field(default_factory=list)
    merged: dict[int, _MergedRows] = field(default_factory=dict)

    def run(self, source: ir.Graph) -> ir.Graph:
        for _ in range(self.count):
            self.values.append({})
            for given in source.inputs():
                value = self.values[-1][given.unique()] = self.graph.addInput()
                value.setType(given.type())
        self.graph.setInsertPoint(self.graph.return_node())
        for node in source.nodes():
            self._visit(node)
        for batch in range(self.count):
            for output in source.outputs():
                self.graph.registerOutput(self._value(batch, output))
        self.graph.makeMultiOutputIntoTuple()
        return self.graph

    def _visit(self, node: ir.Node) -> None:
        if node.kind() == "prim::Constant":
            constant = self._clone(node, lambda value: value).output()
            for values in self.values:
                values[node.output().unique()] = constant
        elif is_packable(node) or self._works_on_rows(node):
            self.merged[node.output().unique()] = self._run_once(node)
        elif self.merged and any(map(ir.writes, (node, *ir.nodes_inside(node)))):
            raise UnavailableError(f"{node.kind()} may write into what batches share")
        else:
            for batch in range(self.count):
                outputs = self._clone(node, partial(self._value, batch)).outputs()
                pairs = zip(node.outputs(), outputs, strict=True)
                self.values[batch].update({old.unique(): new for old, new in pairs})

    def _works_on_rows(self, node: ir.Node) -> bool:
        """Tell whether an operator computes each row by itself, and so may take merged rows."""
        inputs = list(node.inputs())
        merged = [each for each in inputs if each.unique() in self.merged]
        others = [each for each in inputs if not (each in merged or _is_of_features(each))]
        if not merged:
            return False
        if node.kind() in BINARIES:
            same = self.assume_same_shape and all(map(_is_computed_tensor, others))
            return same or (len(merged) == 1 and not others)
        if node.kind() == LAYER_NORM:
            shape = ir.constant_of(node.inputsAt(1))
            return not others and isinstance(shape, list) and len(shape) == 1
        return not others and node.kind() in ACTIVATIONS

    def _run_once(self, node: ir.Node) -> _MergedRows:
        read = []

        def rows_of(value: ir.Value) -> ir.Value:
            if value.node().kind() == "prim::Constant":
                return self.values[0][value.unique()]
            if value.unique() not in self.merged:
                self.merged[value.unique()] = self._merge(value)
            read.append(self.merged[value.unique()])
            return read[-1].rows

        rows = self._clone(node, rows_of).output()
        return replace(read[0], rows=rows)

    def _merge(self, value: ir.Value) -> _MergedRows:
        parts = [self._value(batch, value) for batch in range(self.count)]
        flat = [self._insert(_FLAT, part) for part in parts]
        ends = [ir.insert_constant(self.graph, self.graph.return_node(), 0)]
        for each in flat:
            ends.append(self._insert(_END, ends[-1], each))
        leads = [self._insert(_LEAD, part) for part in parts]
        return _MergedRows(self._insert(_concatenation(self.count), *flat), ends, leads)

    def _value(self, batch: int, value: ir.Value) -> ir.Value:
        """Return one batch's value of a value in the first graph."""
        known, key = self.values[batch], value.unique()
        if key not in known:
            merged = self.merged[key]
            part = merged.ends[batch], merged.ends[batch + 1], merged.leads[batch]
            known[key] = self._insert(_PART, merged.rows, *part)
        return known[key]

    def _insert(self, template: str, *inputs: ir.Value) -> ir.Value:
        return ir.insert(self.graph, self.graph.return_node(), template, *inputs)

    def _clone(self, node: ir.Node, value_of: Callable[[ir.Value], ir.Value]) -> ir.Node:
        clone = self.graph.createClone(node, value_of)  # type: ignore[attr-defined]
        return self.graph.insertNode(clone)


def _is_of_features(value: ir.Value) -> bool:
    """Tell whether a value is a constant that is the same for every row."""
    tensor = ir.constant_tensor(value)
    return value.node().kind() == "prim::Constant" and (tensor is None or tensor.dim() <= 1)


def _is_computed_tensor(value: ir.Value) -> bool:
    return value.node().kind() != "prim::Constant" and value.type().kind() == "TensorType"


def _concatenation(count: int) -> str:
    names = ", ".join(f"%part{number}" for number in range(count))
    return f"""graph({names}):
  %dimension : int = prim::Constant[value=0]()
  %parts : Tensor[] = prim::ListConstruct({names})
  %output : Tensor = aten::cat(%parts, %dimension)
  return (%output)"""
