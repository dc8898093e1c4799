"""A loaded module -> the same methods over packed weights, checked against it."""

from __future__ import annotations

import copy
import logging
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from torchscript_bundle.serving.packed.activations import name_activations
from torchscript_bundle.serving.packed.checks import TOLERANCES, difference
from torchscript_bundle.serving.packed.errors import NotPackedError
from torchscript_bundle.serving.packed.fusions import PackedGraph, fuse
from torchscript_bundle.serving.packed.graphs import Graph
from torchscript_bundle.serving.packed.linears import write_as_linear
from torchscript_bundle.serving.packed.precision import lower
from torchscript_bundle.serving.packed.weights import PackedWeights

logger = logging.getLogger(__name__)

#: A method's arguments, by position.
Arguments = tuple[Any, ...]
Method = Callable[..., Any]


@dataclass(frozen=True)
class Packed:
    """What runs instead of a module.

    Attributes:
        methods: name -> takes and returns what the module's method does.
        reason: why the methods are the module's own; None if they are packed.
    """

    methods: Mapping[str, Method]
    reason: str | None = None

    def __call__(self, *arguments: Any) -> Any:
        """What `forward` of the module gives."""
        return self.methods["forward"](*arguments)


def pack(
    module: torch.jit.ScriptModule,
    examples: Sequence[Arguments],
    dtype: torch.dtype = torch.float32,
) -> Packed:
    """Packs `forward`; see `pack_methods`."""
    return pack_methods(module, {"forward": examples}, dtype)


def pack_methods(
    module: torch.jit.ScriptModule,
    examples: Mapping[str, Sequence[Arguments]],
    dtype: torch.dtype = torch.float32,
) -> Packed:
    """Packs methods of a module, which share packed weights as they share dense ones.

    The module is left as it is. It may be dropped afterwards: what packed methods need of it, they
    hold. Where packing cannot be done, or its outputs differ, the methods are the module's own, and
    a warning in the log says why.

    Args:
        module: loaded, in eval mode, on one device.
        examples: each method's arguments at several batch sizes and lengths, padded and not; the
            outputs are compared on all of them.
        dtype: of the packed weights. bfloat16 also runs what lies between linear layers in bfloat16
            where that is faster.
    """
    started = time.perf_counter()
    with torch.no_grad():
        try:
            packed, linears = _pack(module, examples, dtype)
        except NotPackedError as error:
            logger.warning("the module runs as it was saved: %s", error)
            return Packed({name: getattr(module, name) for name in examples}, str(error))
    took = time.perf_counter() - started
    logger.info("%d linear layers packed in %s, %.1f s", linears, dtype, took)
    return packed


def _pack(
    module: torch.jit.ScriptModule,
    examples: Mapping[str, Sequence[Arguments]],
    dtype: torch.dtype,
) -> tuple[Packed, int]:
    if any(tensor.device.type != "cpu" for tensor in module.state_dict().values()):
        raise NotPackedError("it is not on the CPU")
    weights = PackedWeights(dtype)
    expected = {name: _outputs(name, getattr(module, name), examples[name]) for name in examples}
    graphs = _frozen_graphs(module, list(examples))
    failure: NotPackedError | None = None
    for boldly in (True, False):
        try:
            methods, linears = {}, 0
            for name, graph in graphs.items():
                methods[name], count = _pack_graph(name, graph.copy(), weights, boldly)
                linears += count
            _check(methods, examples, expected, TOLERANCES[dtype])
        except NotPackedError as error:
            failure = failure or error
        except RuntimeError as error:
            # torch has no one class for what its compiler and its operators refuse.
            failure = failure or NotPackedError(_said(error))
        else:
            return Packed(methods), linears
    assert failure is not None
    raise failure


def _frozen_graphs(module: torch.jit.ScriptModule, names: list[str]) -> dict[str, Graph]:
    """Each method's graph with weights as constants, which are the module's own tensors."""
    others = [name for name in names if name != "forward"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.", DeprecationWarning)
        frozen = torch.jit.freeze(module, preserved_attrs=others)
    graphs = {name: frozen._c._get_method(name).graph.copy() for name in names}
    for name, graph in graphs.items():
        torch._C._jit_pass_inline(graph)
        if next(iter(graph.inputs())).uses():
            raise NotPackedError(f"{name} holds attributes that may change")
        graph.eraseInput(0)
    return graphs


def _pack_graph(
    name: str, graph: Graph, weights: PackedWeights, boldly: bool
) -> tuple[Method, int]:
    for rewrite in (write_as_linear, name_activations):
        rewrite(graph)
        torch._C._jit_pass_dce(graph)
    packed = PackedGraph(graph, weights)
    linears = fuse(packed, boldly)
    if not linears:
        raise NotPackedError(f"{name} has no linear layer in float32")
    torch._C._jit_pass_dce(graph)
    if weights.dtype != torch.float32:
        lower(graph, weights.dtype)
        torch._C._jit_pass_dce(graph)
    torch._C._jit_pass_constant_pooling(graph)  # type: ignore[attr-defined]
    graph.lint()
    function = torch._C._create_function_from_graph(name, graph)
    inputs = tuple(packed.inputs)
    return lambda *arguments: function(*arguments, *inputs), linears


def _outputs(name: str, method: Method, examples: Sequence[Arguments]) -> list[Any]:
    """What a method gives for copies of the arguments: it may write into them (a cache)."""
    try:
        return [method(*copy.deepcopy(arguments)) for arguments in examples]
    except RuntimeError as error:
        raise NotPackedError(
            f"{name} fails on an example: {str(error).splitlines()[-1]}"
        ) from error


def _check(
    methods: Mapping[str, Method],
    examples: Mapping[str, Sequence[Arguments]],
    expected: Mapping[str, Sequence[Any]],
    tolerance: float,
) -> None:
    for name, method in methods.items():
        actual = _outputs(f"packed, {name}", method, examples[name])
        found = difference(list(expected[name]), actual)
        if not found <= tolerance:
            raise NotPackedError(
                f"packed, {name} differs by {found:.1e} of the outputs' scale, more than "
                f"{tolerance:.0e}"
            )


def _said(error: RuntimeError) -> str:
    """What an error says without the traceback of TorchScript, which stands above it."""
    return str(error).strip().rpartition("\n")[2]
