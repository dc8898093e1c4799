"""Pack a loaded module: find its linear layers, rewrite them over packed weights, compare outputs.

A further rewrite is an entry of `REWRITES`; a further kind of weights is a `WeightKind`.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from torchscript_bundle.serving.artifact import INT8, PRECISIONS
from torchscript_bundle.serving.engine.comparison import (
    GRAPH_ERRORS,
    TOLERANCES,
    UnavailableError,
    difference,
)
from torchscript_bundle.serving.engine.onednn import ir
from torchscript_bundle.serving.engine.onednn.edited_graph import (
    Arguments,
    EditedGraph,
    Method,
    run_examples,
)
from torchscript_bundle.serving.engine.onednn.find import find_layers
from torchscript_bundle.serving.engine.onednn.frozen_graphs import frozen_graphs, require_cpu
from torchscript_bundle.serving.engine.onednn.int8.calibration import Calibration
from torchscript_bundle.serving.engine.onednn.int8.quantised_linears import quantise_linears
from torchscript_bundle.serving.engine.onednn.int8.quantised_weights import QuantisedWeights
from torchscript_bundle.serving.engine.onednn.rewrite.bfloat16 import run_in_bfloat16
from torchscript_bundle.serving.engine.onednn.rewrite.few_rows import repeat_few_rows
from torchscript_bundle.serving.engine.onednn.rewrite.linear_fusion import (
    FloatLayers,
    replace_linears,
)
from torchscript_bundle.serving.engine.onednn.rewrite.merged_batches import merge_batches
from torchscript_bundle.serving.errors import last_line

logger = logging.getLogger(__name__)

Rewrite = Callable[[EditedGraph], None]

#: dtype of packed weights -> the rewrites after that of linear layers, in order.
REWRITES: dict[torch.dtype, tuple[Rewrite, ...]] = {
    torch.float32: (repeat_few_rows,),
    torch.bfloat16: (run_in_bfloat16,),
}

#: Tolerance of merged batches. Another order of summation may round to the next bfloat16 or int8.
MERGED_TOLERANCE = 5e-2


@dataclass(frozen=True)
class WeightKind:
    """The rewriting of graphs over one kind of packed weights.

    `rewrites` makes the rewrites, which share weights between graphs; it raises UnavailableError if
    torch or the CPU cannot compute with such weights.
    """

    name: str
    tolerance: float
    rewrites: Callable[[], Sequence[Rewrite]]


@dataclass(frozen=True)
class Packed:
    """The replacement of a module.

    Attributes:
        methods: by name, with the arguments and results of the module's.
        reason: why the methods are the module's own; None if they are packed.
        joined: by a number of batches: takes the arguments of so many, one after the other, and
            returns a tuple of the outputs of `forward` for each.
        linears: how many linear layers are packed.
    """

    methods: Mapping[str, Method]
    reason: str | None = None
    joined: Mapping[int, Method] = field(default_factory=dict)
    linears: int = 0

    def __call__(self, *arguments: Any) -> Any:
        """Call `forward`."""
        return self.methods["forward"](*arguments)


def pack(
    module: torch.jit.ScriptModule,
    examples: Mapping[str, Sequence[Arguments]],
    dtype: torch.dtype = torch.float32,
    counts: Sequence[int] = (),
) -> Packed:
    """Pack methods of a module, which share packed weights as they share dense ones.

    The module stays as it is, and may be dropped: packed methods hold what they need of it. Where
    packing fails or outputs differ, the methods are the module's own, and a warning says why.

    Args:
        examples: each method's arguments at several batch sizes and lengths, padded and not; all
            compare outputs.
        dtype: of the packed weights; with bfloat16, other operators run in it too where that gains.
        counts: numbers of batches that `forward` also takes merged; a warning says where it cannot.
    """

    def rewrites() -> Sequence[Rewrite]:
        return [partial(replace_linears, layers=FloatLayers(dtype)), *REWRITES[dtype]]

    return _pack(module, examples, WeightKind(str(dtype), TOLERANCES[dtype], rewrites), counts)


def pack_int8(
    module: torch.jit.ScriptModule,
    examples: Sequence[Arguments],
    calibration: Calibration,
    counts: Sequence[int] = (),
) -> Packed:
    """Pack the calibrated method into int8 by `pack`.

    Layers without a range, and those with few outputs, are packed in float32. Scales are fixed, so
    that outputs depend neither on other rows nor on padding.
    """

    def rewrites() -> Sequence[Rewrite]:
        int8 = partial(quantise_linears, weights=QuantisedWeights(), calibration=calibration)
        return [int8, partial(replace_linears, layers=FloatLayers(torch.float32))]

    with warnings.catch_warnings():
        # torch warns that quint8 will go. Then the module runs as saved, for lack of the operator.
        warnings.filterwarnings("ignore", "torch.quantize_per_tensor", UserWarning)
        kind = WeightKind(INT8, PRECISIONS[INT8].tolerance, rewrites)
        return _pack(module, {calibration.method: examples}, kind, counts)


@dataclass(frozen=True)
class Reference:
    """Expected outputs of a method; `tolerance` is relative to an output's largest value."""

    name: str
    examples: Sequence[Arguments]
    expected: Sequence[Any]
    tolerance: float

    def check(self, method: Method) -> list[Any]:
        """Return a packed method's outputs; raise UnavailableError where they differ too much."""
        actual = run_examples(f"packed, {self.name}", method, self.examples)
        found = difference(list(self.expected), actual)
        if not found <= self.tolerance:
            raise UnavailableError(
                f"packed, {self.name} differs by {found:.1e} of the outputs' scale, more than "
                f"{self.tolerance:.0e}"
            )
        return actual

    def merged(self, count: int, alone: Sequence[Any]) -> Reference:
        """Expect the outputs `alone` of merged batches; leave out the largest, slowest example."""
        order = sorted(range(len(self.examples)), key=lambda at: -self.examples[at][0].numel())
        smaller = order[1:] or order
        chosen = [smaller[at % len(smaller)] for at in range(count)]
        arguments = tuple(each for at in chosen for each in self.examples[at])
        tolerance = min(self.tolerance, MERGED_TOLERANCE)
        expected = tuple(alone[at] for at in chosen)
        return Reference(f"{self.name}_of_{count}", [arguments], [expected], tolerance)


@torch.no_grad()
def _pack(
    module: torch.jit.ScriptModule,
    examples: Mapping[str, Sequence[Arguments]],
    kind: WeightKind,
    counts: Sequence[int],
) -> Packed:
    """Find, rewrite and compare; where that fails, return the module's own methods."""
    started = time.perf_counter()
    methods = {name: getattr(module, name) for name in examples}
    try:
        require_cpu(module)
        rewrites = kind.rewrites()
        references = {
            name: Reference(name, each, run_examples(name, methods[name], each), kind.tolerance)
            for name, each in examples.items()
        }
        graphs = frozen_graphs(module, list(examples))
        for graph in graphs.values():
            find_layers(graph)
        attempt = _Attempt(graphs, references, rewrites, assume_same_shape=True)
        try:
            packed = attempt.pack(counts)
        except UnavailableError as first:
            try:
                packed = replace(attempt, assume_same_shape=False).pack(counts)
            except UnavailableError:
                raise first from None
    except UnavailableError as error:
        logger.warning("the module runs as it was saved: %s", error)
        return Packed(methods, str(error))
    took = time.perf_counter() - started
    logger.info("%d linear layers packed in %s, %.1f s", packed.linears, kind.name, took)
    return packed


@dataclass(frozen=True)
class _Attempt:
    """Rewrites copies of the frozen graphs of methods."""

    graphs: Mapping[str, ir.Graph]
    references: Mapping[str, Reference]
    rewrites: Sequence[Rewrite]
    assume_same_shape: bool

    def pack(self, counts: Sequence[int]) -> Packed:
        try:
            edited = [self._rewrite(name, graph.copy()) for name, graph in self.graphs.items()]
            methods = {each.name: each.compile() for each in edited}
            outputs = {name: self.references[name].check(each) for name, each in methods.items()}
        except GRAPH_ERRORS as error:
            # torch's compiler and its operators raise several classes.
            raise UnavailableError(last_line(error)) from error
        linears = sum(each.linears for each in edited)
        return Packed(methods, None, self._merge(counts, outputs), linears)

    def _rewrite(self, name: str, graph: ir.Graph, *, merged: bool = False) -> EditedGraph:
        edited = EditedGraph(name, graph, assume_same_shape=self.assume_same_shape, merged=merged)
        for rewrite in self.rewrites:
            rewrite(edited)
            torch._C._jit_pass_dce(graph)
        if not edited.linears:
            raise UnavailableError(f"{name} has no linear layer in float32")
        return edited

    def _merge(self, counts: Sequence[int], outputs: Mapping[str, Any]) -> dict[int, Method]:
        """Return a function for each number of batches; log a warning where that fails."""
        merged: dict[int, Method] = {}
        try:
            for count in counts:
                reference = self.references["forward"].merged(count, outputs["forward"])
                graph = self.graphs["forward"]
                graph = merge_batches(graph, count, assume_same_shape=self.assume_same_shape)
                method = self._rewrite(reference.name, graph, merged=True).compile()
                reference.check(method)
                merged[count] = method
        except (UnavailableError, *GRAPH_ERRORS) as error:
            logger.warning("each batch is a pass of its own: %s", last_line(error))
        return merged
