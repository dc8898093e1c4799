"""Reading and editing TorchScript graphs, blocks of loops and branches included."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import torch

Graph = torch._C.Graph
Node = torch._C.Node
Value = torch._C.Value


def all_nodes(block: torch._C.Block | Graph) -> Iterator[Node]:
    """Every node, in order; after a loop or branch come the nodes inside it."""
    for node in list(block.nodes()):
        yield node
        for inner in node.blocks():
            yield from all_nodes(inner)


def nodes_of(graph: Graph, kind: str) -> list[Node]:
    """Every node of one kind, as ordered by `all_nodes`, and much sooner found in a large graph."""
    return list(graph.findAllNodes(kind))  # type: ignore[attr-defined]


def constant_tensor(value: Value) -> torch.Tensor | None:
    """The tensor that a value always is, if it is one."""
    if value.node().kind() != "prim::Constant" or value.type().kind() != "TensorType":
        return None
    tensor = value.toIValue()
    return tensor if isinstance(tensor, torch.Tensor) else None


def constant_of(value: Value) -> object:
    """What a value always is; None where it is computed."""
    return value.toIValue() if value.node().kind() == "prim::Constant" else None


def only_user(value: Value) -> Node | None:
    """The node that alone takes a value, and takes it once."""
    uses = value.uses()
    return uses[0].user if len(uses) == 1 else None


def insert_constant(graph: Graph, before: Node, value: object) -> Value:
    """A constant, made before a node."""
    graph.setInsertPoint(before)
    constant: Value = graph.insertConstant(value)  # type: ignore[attr-defined]
    return constant


def insert(graph: Graph, before: Node, template: str, *inputs: Value) -> Value:
    """Puts operators before a node.

    Args:
        graph: the whole graph.
        before: where.
        template: IR text of a graph with one output.
        inputs: what its inputs are.
    """
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
    """Whether an operator may write into one of its arguments."""
    schema = node.schema()
    return schema != "(no schema)" and _schema_writes(schema)


def moves_safely(first: Node, last: Node) -> bool:
    """Whether what `first` computes may as well be computed at `last`, later in its block."""
    if first.owningBlock() != last.owningBlock() or not first.isBefore(last):
        return False
    node = last.prev()
    while node != first:
        if writes(node) or list(node.blocks()):
            return False
        node = node.prev()
    return True


def next_node(node: Node) -> Node:
    """The node that runs after one, in its block."""
    nodes = iter(node.owningBlock().nodes())
    for each in nodes:
        if each == node:
            return next(nodes, node.owningBlock().returnNode())
    raise AssertionError("a node is in its own block")


@dataclass
class PackedInputs:
    """Inputs that a graph gets after its own: constants cannot hold what is packed.

    Attributes:
        graph: is edited.
        tensors: what they hold, in order.
    """

    graph: Graph
    tensors: list[torch.Tensor] = field(default_factory=list)
    _values: dict[int, Value] = field(default_factory=dict)

    def holding(self, packed: torch.Tensor) -> Value:
        """The input that holds a tensor."""
        if id(packed) not in self._values:
            value = self.graph.addInput()
            value.setType(torch._C.TensorType.get())
            self._values[id(packed)] = value
            self.tensors.append(packed)
        return self._values[id(packed)]
