"""Read and edit TorchScript graphs, blocks of loops and branches included."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import torch

Graph = torch._C.Graph
Node = torch._C.Node
Value = torch._C.Value


def all_nodes(block: torch._C.Block | Graph) -> Iterator[Node]:
    """Yield every node in order; the nodes inside a loop or branch follow it."""
    for node in list(block.nodes()):
        yield node
        yield from nodes_inside(node)


def nodes_inside(node: Node) -> Iterator[Node]:
    """Yield every node in the blocks of a loop or branch."""
    for block in node.blocks():
        yield from all_nodes(block)


def nodes_of(graph: Graph, kind: str) -> list[Node]:
    """Return every node of one kind in the order of `all_nodes`, much faster."""
    return list(graph.findAllNodes(kind))  # type: ignore[attr-defined]


def constant_tensor(value: Value) -> torch.Tensor | None:
    """Return a constant's tensor; None for any other value."""
    if value.node().kind() != "prim::Constant" or value.type().kind() != "TensorType":
        return None
    tensor = value.toIValue()
    return tensor if isinstance(tensor, torch.Tensor) else None


def constant_of(value: Value) -> object:
    """Return a constant's content; None for a computed value."""
    return value.toIValue() if value.node().kind() == "prim::Constant" else None


def only_user(value: Value) -> Node | None:
    """Return the node that reads a value, if there is one and it reads the value once."""
    uses = value.uses()
    return uses[0].user if len(uses) == 1 else None


def constants(**values: float | None) -> str:
    """Return IR text that defines numbers, flags and None, a line each."""
    kinds = {bool: "bool", int: "int", float: "float", type(None): "NoneType"}
    lines = []
    for name, value in values.items():
        number = int(value) if isinstance(value, bool) else value
        held = "" if number is None else f"[value={number}]"
        lines.append(f"%{name} : {kinds[type(value)]} = prim::Constant{held}()")
    return "\n  ".join(lines)


def insert_constant(graph: Graph, before: Node, value: object) -> Value:
    """Insert a constant before a node."""
    graph.setInsertPoint(before)
    constant: Value = graph.insertConstant(value)  # type: ignore[attr-defined]
    return constant


def insert(graph: Graph, before: Node, template: str, *inputs: Value) -> Value:
    """Insert the operators of a template, the IR text of a graph with one output, before a node."""
    graph.setInsertPoint(before)
    [output] = graph.insertGraph(_parsed(template), list(inputs))
    return output


@cache
def _parsed(template: str) -> Graph:
    return torch._C.parse_ir(template)


@cache
def _schema_writes(schema: str) -> bool:
    return bool(torch._C.parse_schema(schema).is_mutable)


def writes(node: Node) -> bool:
    """Tell whether an operator may write into one of its arguments."""
    schema = node.schema()
    return schema != "(no schema)" and _schema_writes(schema)


def moves_safely(first: Node, last: Node) -> bool:
    """Tell whether `first` may as well be computed at `last`, later in the same block."""
    if first.owningBlock() != last.owningBlock() or not first.isBefore(last):
        return False
    node = last.prev()
    while node != first:
        if writes(node) or list(node.blocks()):
            return False
        node = node.prev()
    return True


def next_node(node: Node) -> Node:
    """Return the node after one in its block."""
    nodes = iter(node.owningBlock().nodes())
    for each in nodes:
        if each == node:
            return next(nodes, node.owningBlock().returnNode())
    raise AssertionError("a node is in its own block")
