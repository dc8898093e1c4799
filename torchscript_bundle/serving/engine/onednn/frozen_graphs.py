"""Turn a loaded module's methods into editable graphs that outlive the module."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from torchscript_bundle.serving.engine.comparison import UnavailableError
from torchscript_bundle.serving.engine.onednn import ir
from torchscript_bundle.serving.engine.torchscript import accept_deprecation

#: Calls that are left after inlining. They hold plain pointers to functions of the module.
CALLS = ("prim::CallFunction", "prim::CallMethod")


def require_cpu(module: torch.jit.ScriptModule) -> None:
    """Raise UnavailableError unless all of a module is on the CPU."""
    if any(tensor.device.type != "cpu" for tensor in module.state_dict().values()):
        raise UnavailableError("it is not on the CPU")


def frozen_graphs(module: torch.jit.ScriptModule, names: Sequence[str]) -> dict[str, ir.Graph]:
    """Return each method's inlined graph, with the module's own weights as constants."""
    require_cpu(module)
    others = [name for name in names if name != "forward"]
    with accept_deprecation():
        frozen = torch.jit.freeze(module, preserved_attrs=others)
    graphs = {}
    for name in names:
        inlined = frozen._c._get_method(name).graph.copy()
        torch._C._jit_pass_inline(inlined)
        graphs[name] = graph = detached(inlined)
        if next(iter(graph.inputs())).uses():
            raise UnavailableError(f"{name} holds attributes that may change")
        graph.eraseInput(0)
    return graphs


def detached(graph: ir.Graph) -> ir.Graph:
    """Copy an inlined graph so that the copy holds no pointer into the module.

    Inlining gives each node a call stack: plain pointers to the inlined functions, which the module
    owns. When an operator raises, the TorchScript interpreter writes a traceback from it; once the
    module is freed, that reads freed memory: the process dies of SIGSEGV (pytorch/pytorch#63576).
    `Graph.copy` and `createClone` copy call stacks; newly created nodes have none. Constants stay
    equal to the last bit, and tensors share their memory.
    """
    copy = torch._C.Graph()
    _copy_block(graph, copy, copy, {})
    return copy


def _copy_block(
    source: ir.Graph | torch._C.Block,
    target: ir.Graph | torch._C.Block,
    copy: ir.Graph,
    values: dict[int, ir.Value],
) -> None:
    """`values` maps the source's values to the copy's."""
    add_input = target.addInput if isinstance(target, ir.Graph) else target.addInputToBlock  # type: ignore[attr-defined]
    for given in source.inputs():
        values[given.unique()] = _typed_like(add_input(), given)
    for node in source.nodes():
        if node.kind() in CALLS:
            raise UnavailableError(f"it calls a function by {node.kind()}, which cannot be inlined")
        inputs = [values[given.unique()] for given in node.inputs()]
        created = copy.insertNode(copy.create(node.kind(), inputs, node.outputsSize()))
        created.copyAttributes(node)
        for name in node.attributeNames():
            if node.kindOf(name) == "g":  # what prim::fork runs
                created.g_(name, detached(node.g(name)))
        for old, new in zip(node.outputs(), created.outputs(), strict=True):
            values[old.unique()] = _typed_like(new, old)
        for block in node.blocks():
            inner = created.addBlock()
            with copy.insert_point_guard(inner):
                _copy_block(block, inner, copy, values)
    for output in source.outputs():
        target.registerOutput(values[output.unique()])


def _typed_like(value: ir.Value, other: ir.Value) -> ir.Value:
    value.setType(other.type())
    return value
