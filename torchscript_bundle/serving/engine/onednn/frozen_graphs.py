"""A loaded module -> its methods' graphs, to be edited, and back to what runs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch

from torchscript_bundle.serving.engine.comparison import GRAPH_ERRORS, NotPackedError
from torchscript_bundle.serving.engine.onednn.bound import Bound, take_out_tables
from torchscript_bundle.serving.engine.onednn.detaching import detached
from torchscript_bundle.serving.engine.onednn.find.activations import name_activations
from torchscript_bundle.serving.engine.onednn.find.linears import write_as_linear
from torchscript_bundle.serving.engine.onednn.graph_editing import Graph
from torchscript_bundle.serving.engine.torchscript import accept_deprecation
from torchscript_bundle.serving.errors import last_line

#: A method's arguments, by position.
Arguments = tuple[Any, ...]
Method = Callable[..., Any]


def refuse_other_devices(module: torch.jit.ScriptModule) -> None:
    """Raises NotPackedError unless all of a module is on the CPU."""
    if any(tensor.device.type != "cpu" for tensor in module.state_dict().values()):
        raise NotPackedError("it is not on the CPU")


def frozen_graphs(module: torch.jit.ScriptModule, names: list[str]) -> dict[str, Graph]:
    """Each method's graph with weights as constants, which are the module's own tensors.

    Linear layers, and the activations after them, are each one operator.

    Raises:
        NotPackedError: a method reads what may change.
    """
    others = [name for name in names if name != "forward"]
    with accept_deprecation():
        frozen = torch.jit.freeze(module, preserved_attrs=others)
    graphs = {name: _inlined(frozen, name) for name in names}
    for name, graph in graphs.items():
        if next(iter(graph.inputs())).uses():
            raise NotPackedError(f"{name} holds attributes that may change")
        graph.eraseInput(0)
        for rewrite in (write_as_linear, name_activations):
            rewrite(graph)
            torch._C._jit_pass_dce(graph)
    return graphs


def _inlined(module: torch.jit.ScriptModule, name: str) -> Graph:
    """A method's graph with all that it calls inside, which does not need the module any more."""
    graph = module._c._get_method(name).graph.copy()
    torch._C._jit_pass_inline(graph)
    return detached(graph)


def function_of(name: str, graph: Graph, inputs: Sequence[torch.Tensor]) -> Method:
    """What runs a graph, given the tensors that are its last inputs."""
    torch._C._jit_pass_constant_pooling(graph)  # type: ignore[attr-defined]
    graph.lint()
    tables = take_out_tables(graph)
    return Bound(torch._C._create_function_from_graph(name, graph), [*inputs, *tables])


def outputs(name: str, method: Method, examples: Sequence[Arguments]) -> list[Any]:
    """What a method gives for copies of the arguments: it may write into them (a cache).

    Raises:
        NotPackedError: it fails.
    """
    try:
        return [method(*copy.deepcopy(arguments)) for arguments in examples]
    except GRAPH_ERRORS as error:
        raise NotPackedError(f"{name} fails on an example: {last_line(error)}") from error
