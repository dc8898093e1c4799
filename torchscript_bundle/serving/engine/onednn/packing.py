"""A loaded module -> the same methods over packed weights, checked against it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from torchscript_bundle.serving.engine.comparison import (
    GRAPH_ERRORS,
    TOLERANCES,
    NotPackedError,
    difference,
)
from torchscript_bundle.serving.engine.onednn.frozen_graphs import (
    Arguments,
    Method,
    frozen_graphs,
    function_of,
    outputs,
    refuse_other_devices,
)
from torchscript_bundle.serving.engine.onednn.graph_editing import Graph, PackedInputs
from torchscript_bundle.serving.engine.onednn.packed_weights import PackedWeights
from torchscript_bundle.serving.engine.onednn.rewrite.bfloat16 import lower
from torchscript_bundle.serving.engine.onednn.rewrite.few_rows import repeat_few_rows
from torchscript_bundle.serving.engine.onednn.rewrite.linear_fusion import UNARY, PackedGraph, fuse
from torchscript_bundle.serving.engine.onednn.rewrite.merged_batches import join_batches
from torchscript_bundle.serving.errors import last_line

logger = logging.getLogger(__name__)

#: Largest difference of batches that share a pass to the same ones apart, of the outputs' scale.
#: In bfloat16 and int8 a sum that is ordered otherwise may round to the next step.
JOINED_TOLERANCE = 5e-2

#: A method's name, its graph, whether to take in what is right only if shapes are as they nearly
#: always are, and whether few rows are worth a branch -> what runs, and how many linear layers it
#: has.
Packer = Callable[[str, Graph, bool, bool], tuple[Method, int]]


@dataclass(frozen=True)
class Packed:
    """What runs instead of a module.

    Attributes:
        methods: name -> takes and returns what the module's method does.
        reason: why the methods are the module's own; None if they are packed.
        joined: number of batches -> takes the arguments of so many, one after the other, and
            returns a tuple of what `forward` gives for each; see `join_batches`.
    """

    methods: Mapping[str, Method]
    reason: str | None = None
    joined: Mapping[int, Method] = field(default_factory=dict)

    def __call__(self, *arguments: Any) -> Any:
        """What `forward` of the module gives."""
        return self.methods["forward"](*arguments)


def pack(
    module: torch.jit.ScriptModule,
    examples: Sequence[Arguments],
    dtype: torch.dtype = torch.float32,
    counts: Sequence[int] = (),
) -> Packed:
    """Packs `forward`; see `pack_methods`.

    Args:
        module: as there.
        examples: its arguments, as there.
        dtype: as there.
        counts: how many batches shall be able to share a pass. Where that cannot be done, a warning
            in the log says why, and each batch is a pass.
    """
    return pack_methods(module, {"forward": examples}, dtype, counts)


def pack_methods(
    module: torch.jit.ScriptModule,
    examples: Mapping[str, Sequence[Arguments]],
    dtype: torch.dtype = torch.float32,
    counts: Sequence[int] = (),
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
        counts: of `forward`, see `pack`.
    """

    def make() -> Packer:
        weights = PackedWeights(dtype)
        return partial(_pack_graph, weights)

    return pack_with(module, examples, make, TOLERANCES[dtype], str(dtype), counts)


def pack_with(
    module: torch.jit.ScriptModule,
    examples: Mapping[str, Sequence[Arguments]],
    make: Callable[[], Packer],
    tolerance: float,
    form: str,
    counts: Sequence[int] = (),
) -> Packed:
    """Packs methods of a module in one way, and compares; see `pack_methods`.

    Args:
        module: as there.
        examples: as there.
        make: gives what packs a graph. It may raise NotPackedError.
        tolerance: largest difference to the module's outputs, of their scale.
        form: of the weights, for the log.
        counts: of `forward`, see `pack`.
    """
    started = time.perf_counter()
    with torch.no_grad():
        try:
            packed, linears = _pack(module, examples, make, tolerance, counts)
        except NotPackedError as error:
            logger.warning("the module runs as it was saved: %s", error)
            return Packed({name: getattr(module, name) for name in examples}, str(error))
    took = time.perf_counter() - started
    logger.info("%d linear layers packed in %s, %.1f s", linears, form, took)
    return packed


def _pack(
    module: torch.jit.ScriptModule,
    examples: Mapping[str, Sequence[Arguments]],
    make: Callable[[], Packer],
    tolerance: float,
    counts: Sequence[int],
) -> tuple[Packed, int]:
    refuse_other_devices(module)
    pack_graph = make()
    expected = {name: outputs(name, getattr(module, name), examples[name]) for name in examples}
    graphs = frozen_graphs(module, list(examples))
    failure: NotPackedError | None = None
    for boldly in (True, False):
        try:
            methods, linears = {}, 0
            for name, graph in graphs.items():
                methods[name], count = pack_graph(name, graph.copy(), boldly, True)
                linears += count
            found = _check(methods, examples, expected, tolerance)
        except NotPackedError as error:
            failure = failure or error
        except GRAPH_ERRORS as error:
            # torch has no one class for what its compiler and its operators refuse.
            failure = failure or NotPackedError(last_line(error))
        else:
            joined = {}
            if counts:
                checked = examples["forward"], found["forward"], min(tolerance, JOINED_TOLERANCE)
                joined = _join(graphs["forward"], counts, boldly, pack_graph, checked)
            return Packed(methods, joined=joined), linears
    assert failure is not None
    raise failure


def _pack_graph(
    weights: PackedWeights, name: str, graph: Graph, boldly: bool, few_rows: bool
) -> tuple[Method, int]:
    packed = PackedGraph(graph, weights, PackedInputs(graph))
    linears = fuse(packed, boldly)
    if not linears:
        raise NotPackedError(f"{name} has no linear layer in float32")
    torch._C._jit_pass_dce(graph)
    if weights.dtype != torch.float32:
        lower(graph, weights.dtype)
    elif few_rows:
        repeat_few_rows(graph, UNARY)
    torch._C._jit_pass_dce(graph)
    return function_of(name, graph, packed.inputs.tensors), linears


def _join(
    graph: Graph,
    counts: Sequence[int],
    boldly: bool,
    pack_graph: Packer,
    checked: tuple[Sequence[Arguments], Sequence[Any], float],
) -> dict[int, Method]:
    """What runs several batches as one, compared on all examples but the largest.

    None where it cannot be.

    Args:
        graph: of `forward`.
        counts: of batches.
        boldly: as for a `Packer`.
        pack_graph: what packed `forward`.
        checked: arguments, what it gives for them, and how far off this may be.
    """
    examples, expected, tolerance = checked
    # The largest example is one of one batch as well, and takes longer than all others.
    largest_first = sorted(range(len(examples)), key=lambda at: -examples[at][0].numel())
    taken = largest_first[1:] or largest_first
    joined = {}
    try:
        for count in counts:
            several = join_batches(graph, count, boldly)
            name = f"forward_of_{count}"
            method, _ = pack_graph(name, several, boldly, False)
            chosen = [taken[at % len(taken)] for at in range(count)]
            arguments = tuple(each for at in chosen for each in examples[at])
            each_expected = tuple(expected[at] for at in chosen)
            _check({name: method}, {name: [arguments]}, {name: [each_expected]}, tolerance)
            joined[count] = method
    except (NotPackedError, *GRAPH_ERRORS) as error:
        logger.warning("each batch is a pass of its own: %s", last_line(error))
    return joined


def _check(
    methods: Mapping[str, Method],
    examples: Mapping[str, Sequence[Arguments]],
    expected: Mapping[str, Sequence[Any]],
    tolerance: float,
) -> dict[str, list[Any]]:
    """What methods give for their examples, which must be near to what is expected."""
    actual = {}
    for name, method in methods.items():
        actual[name] = outputs(f"packed, {name}", method, examples[name])
        found = difference(list(expected[name]), actual[name])
        if not found <= tolerance:
            raise NotPackedError(
                f"packed, {name} differs by {found:.1e} of the outputs' scale, more than "
                f"{tolerance:.0e}"
            )
    return actual
