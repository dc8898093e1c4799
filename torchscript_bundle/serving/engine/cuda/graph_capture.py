"""CUDA graphs of a module, one for each bucket, each compared with the module."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from torchscript_bundle.serving.engine.comparison import difference
from torchscript_bundle.serving.engine.cuda.buckets import Shape, bucket
from torchscript_bundle.serving.engine.cuda.card import Card, NotCapturedError
from torchscript_bundle.serving.engine.cuda.copies import Outputs, to_card

logger = logging.getLogger(__name__)

Forward = Callable[..., Outputs]

#: Largest difference from the module, of the outputs' scale: by precision, since a library may
#: take another algorithm. It catches errors; most graphs are equal to the last bit.
TOLERANCES = {"float32": 1e-5, "float16": 1e-2, "bfloat16": 5e-2}


@dataclass(frozen=True)
class Bounds:
    """What all graphs together may take.

    Attributes:
        bytes: of the card's memory.
        seconds: of a worker's start.
    """

    bytes: int
    seconds: float


@dataclass(frozen=True)
class Graph:
    """One shape's.

    Attributes:
        inputs: int64 `[arguments, rows, length]`, which it reads.
        outputs: which it writes, and so does the next graph: they are to be read at once.
        replay: computes.
    """

    inputs: torch.Tensor
    outputs: Outputs
    replay: Callable[[], None]

    def __call__(self, host: torch.Tensor) -> Outputs:
        """The module's outputs for arguments that `to_host` joined."""
        self.inputs.copy_(host, non_blocking=True)
        self.replay()
        return self.outputs


class Buffers:
    """Memory that all graphs read and write, each from its beginning.

    Args:
        device: where.
        hosts: arguments of each shape.
        outputs: what the module gives for them; of these only shapes and dtypes are read.
    """

    def __init__(
        self, device: torch.device, hosts: Sequence[torch.Tensor], outputs: Sequence[Outputs]
    ) -> None:
        most = max(host.numel() for host in hosts)
        self._inputs = torch.zeros(most, dtype=torch.int64, device=device)
        self._outputs = [
            torch.zeros(max(each.numel() for each in same), dtype=same[0].dtype, device=device)
            for same in zip(*outputs, strict=True)
        ]

    def inputs(self, host: torch.Tensor) -> torch.Tensor:
        """As large as a shape's arguments."""
        return self._inputs[: host.numel()].view(host.shape)

    def outputs(self, outputs: Outputs) -> Outputs:
        """As large as a shape's outputs."""
        pairs = zip(self._outputs, outputs, strict=True)
        return tuple(buffer[: each.numel()].view(each.shape) for buffer, each in pairs)


class Graphs:
    """Those that were found right.

    Args:
        graphs: rows and length -> its graph.
    """

    def __init__(self, graphs: Mapping[Shape, Graph]) -> None:
        self._graphs = graphs
        self._rows = sorted({rows for rows, _ in graphs})
        self._lengths = sorted({length for _, length in graphs})

    def __len__(self) -> int:
        return len(self._graphs)

    def shape(self, rows: int, length: int) -> Shape:
        """What a batch runs in: the bucket that holds it, if that has a graph, else as it is."""
        found = bucket(rows, self._rows), bucket(length, self._lengths)
        return found if found in self._graphs else (rows, length)  # type: ignore[return-value]

    def get(self, shape: Shape) -> Graph | None:
        """The graph of exactly this shape."""
        return self._graphs.get(shape)


def capture_graphs(
    card: Card,
    forward: Forward,
    examples: Mapping[Shape, Sequence[torch.Tensor]],
    tolerance: float,
    bounds: Bounds,
) -> Graphs:
    """Captures a module at each shape, and keeps what gives the module's outputs.

    TorchScript runs its graph as it is meanwhile: its own optimizations compile at the first calls
    of a shape, which nothing may do during a capture.

    Args:
        card: where the module is.
        forward: the module.
        examples: rows and length -> arguments to compare outputs on, at least two that differ, as
            `to_host` joins them; the most wanted shapes first.
        tolerance: largest difference, of the outputs' scale.
        bounds: at which it ends, with the graphs that it has.
    """
    if not examples:
        return Graphs({})
    with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        graphs = _capture_all(card, forward, examples, bounds)
        # Once all are there: a graph must not be harmed by those that share its memory.
        right = {
            shape: graph
            for shape, graph in graphs.items()
            if _is_right(card, forward, graph, examples[shape], tolerance)
        }
    return Graphs(right)


def _capture_all(
    card: Card,
    forward: Forward,
    examples: Mapping[Shape, Sequence[torch.Tensor]],
    bounds: Bounds,
) -> dict[Shape, Graph]:
    hosts = {shape: batches[0] for shape, batches in examples.items()}
    outputs = {shape: _like(forward(*to_card(card, host))) for shape, host in hosts.items()}
    buffers = Buffers(card.device, [*hosts.values()], [*outputs.values()])
    started, free = time.perf_counter(), card.free()
    graphs: dict[Shape, Graph] = {}
    for shape, host in hosts.items():
        taken, took = free - card.free(), time.perf_counter() - started
        if taken > bounds.bytes or took > bounds.seconds:
            logger.info("no more graphs after %d MB and %.0f s", taken // 2**20, took)
            break
        try:
            graphs[shape] = _capture(card, forward, buffers, host, outputs[shape])
        except NotCapturedError as error:
            logger.warning("no graph of %d x %d tokens, nor any later: %s", *shape, error)
            break
    return graphs


def _like(outputs: Outputs) -> Outputs:
    """Shapes and dtypes without memory."""
    return tuple(torch.empty_like(each, device="meta") for each in outputs)


def _capture(
    card: Card, forward: Forward, buffers: Buffers, host: torch.Tensor, outputs: Outputs
) -> Graph:
    inputs, results = buffers.inputs(host), buffers.outputs(outputs)
    inputs.copy_(host, non_blocking=True)
    arguments = inputs.unbind(0)

    def body() -> None:
        # Into memory of our own: what the module gives lies in memory that graphs share.
        for result, given in zip(results, forward(*arguments), strict=True):
            result.copy_(given)

    return Graph(inputs, results, card.capture(body))


def _is_right(
    card: Card,
    forward: Forward,
    graph: Graph,
    batches: Sequence[torch.Tensor],
    tolerance: float,
) -> bool:
    """Whether a graph gives what the module does, for each batch and for the first once more."""
    for host in (*batches, batches[0]):
        expected = list(forward(*to_card(card, host)))
        found = difference(expected, list(graph(host)))
        if not found <= tolerance:
            logger.warning(
                "no graph of %d x %d tokens: it differs by %.1e of the outputs' scale",
                *host.shape[1:],
                found,
            )
            return False
    return True
