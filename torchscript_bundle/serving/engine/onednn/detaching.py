"""Copies of graphs that outlive the module they came from."""

from __future__ import annotations

import torch

from torchscript_bundle.serving.engine.comparison import NotPackedError
from torchscript_bundle.serving.engine.onednn.graph_editing import Graph, Node, Value

#: What still calls into a module after everything was inlined. Such calls hold plain pointers to
#: functions, which are freed with the module.
CALLS = ("prim::CallFunction", "prim::CallMethod")


def detached(graph: Graph) -> Graph:
    """Return a copy of a graph that holds nothing of the module whose method it was.

    Inlining gives each node a call stack: plain pointers to the functions that were inlined, which
    belong to the module. When an operator raises, the TorchScript interpreter writes a traceback
    from it, and once the module is gone it reads freed memory: the process dies of SIGSEGV
    (pytorch/pytorch#63576). `Graph.copy` and `createClone` copy call stacks; nodes made anew have
    none. Attributes are copied as they are, so that constants stay the same to the last bit, and
    tensors among them share their memory.

    Args:
        graph: inlined; it is left as it is.

    Raises:
        NotPackedError: it calls functions or methods.
    """
    copy = torch._C.Graph()
    values: dict[int, Value] = {}
    for given in graph.inputs():
        values[given.unique()] = _like(copy.addInput(), given)
    _copy_nodes(graph, copy, values)
    for output in graph.outputs():
        copy.registerOutput(values[output.unique()])
    return copy


def _copy_nodes(source: Graph | torch._C.Block, copy: Graph, values: dict[int, Value]) -> None:
    """Make the nodes of a graph or block anew where `copy` inserts; `values` maps old to new."""
    for node in source.nodes():
        if node.kind() in CALLS:
            raise NotPackedError(f"it calls a function by {node.kind()}, which cannot be inlined")
        inputs = [values[given.unique()] for given in node.inputs()]
        made = copy.insertNode(copy.create(node.kind(), inputs, node.outputsSize()))
        _copy_attributes(node, made)
        for old, new in zip(node.outputs(), made.outputs(), strict=True):
            values[old.unique()] = _like(new, old)
        for block in node.blocks():
            _copy_block(block, made.addBlock(), copy, values)


def _copy_block(
    source: torch._C.Block, made: torch._C.Block, copy: Graph, values: dict[int, Value]
) -> None:
    for given in source.inputs():
        values[given.unique()] = _like(made.addInputToBlock(), given)  # type: ignore[attr-defined]
    with copy.insert_point_guard(made):
        _copy_nodes(source, copy, values)
    for output in source.outputs():
        made.registerOutput(values[output.unique()])


def _copy_attributes(node: Node, made: Node) -> None:
    made.copyAttributes(node)
    for name in node.attributeNames():
        if node.kindOf(name) == "g":  # what prim::fork runs
            made.g_(name, detached(node.g(name)))


def _like(made: Value, value: Value) -> Value:
    made.setType(value.type())
    return made
