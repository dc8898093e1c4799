"""CUDA graphs of a module, one per bucket, each compared with the module."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch

from torchscript_bundle.serving.engine.comparison import UnavailableError, difference
from torchscript_bundle.serving.engine.cuda.card import Card
from torchscript_bundle.serving.engine.cuda.copies import to_card
from torchscript_bundle.serving.engine.cuda.graph_buckets import Shape, bucket
from torchscript_bundle.serving.engine.padding import Outputs
from torchscript_bundle.serving.engine.torchscript import Forward

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bounds:
    """Bytes of the card's memory, and seconds of a worker's start, for all graphs."""

    bytes: int
    seconds: float


@dataclass(frozen=True)
class Graph:
    """A shape's graph: int64 `[arguments, rows, length]` -> outputs, valid until any graph runs."""

    inputs: torch.Tensor
    outputs: Outputs
    replay: Callable[[], None]

    def __call__(self, host: torch.Tensor) -> Outputs:
        """Compute the outputs for arguments that `to_host` joined."""
        self.inputs.copy_(host, non_blocking=True)
        self.replay()
        return self.outputs


class Graphs:
    """The right graphs, by shape."""

    def __init__(self, graphs: Mapping[Shape, Graph]) -> None:
        self._graphs = graphs
        self._rows = sorted({rows for rows, _ in graphs})
        self._lengths = sorted({length for _, length in graphs})

    def __len__(self) -> int:
        return len(self._graphs)

    def shape(self, rows: int, length: int) -> Shape:
        """Return a batch's bucket if that has a graph, else the batch's own shape."""
        found = bucket(rows, self._rows), bucket(length, self._lengths)
        return found if found in self._graphs else (rows, length)  # type: ignore[return-value]

    def get(self, shape: Shape) -> Graph | None:
        """Return the graph of exactly this shape."""
        return self._graphs.get(shape)


def capture_graphs(
    card: Card,
    forward: Forward,
    examples: Mapping[Shape, Sequence[torch.Tensor]],
    tolerance: float,
    bounds: Bounds,
) -> Graphs:
    """Capture a module at each shape, and keep the graphs that give its outputs.

    `examples` has at least two different arguments of each shape, as `to_host` joins them, the most
    wanted shapes first; `tolerance` is relative to the outputs' scale. TorchScript's optimizations
    are off: they compile at a shape's first calls, and nothing may compile during a capture.
    """
    if not examples:
        return Graphs({})
    with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        graphs = _capture_all(card, forward, examples, bounds)
        # Compare after capturing all: graphs that share memory must not harm each other.
        right = [
            shape
            for shape, graph in graphs.items()
            if _is_right(card, forward, graph, examples[shape], tolerance)
        ]
    return Graphs({shape: graphs[shape] for shape in right})


def _capture_all(
    card: Card, forward: Forward, examples: Mapping[Shape, Sequence[torch.Tensor]], bounds: Bounds
) -> dict[Shape, Graph]:
    hosts = {shape: batches[0] for shape, batches in examples.items()}
    # Only shapes and dtypes of outputs, without memory.
    outputs = {
        shape: tuple(each.to("meta") for each in forward(*to_card(card, host)))
        for shape, host in hosts.items()
    }
    # All graphs read and write the same memory, each from its beginning.
    read = _buffer(card, hosts.values())
    written = [_buffer(card, same) for same in zip(*outputs.values(), strict=True)]
    started, free = time.perf_counter(), card.free()
    graphs: dict[Shape, Graph] = {}
    for shape, host in hosts.items():
        taken, took = free - card.free(), time.perf_counter() - started
        if taken > bounds.bytes or took > bounds.seconds:
            logger.info("no more graphs after %d MB and %.0f s", taken // 2**20, took)
            break
        results = tuple(_view(*pair) for pair in zip(written, outputs[shape], strict=True))
        try:
            graphs[shape] = _capture(card, forward, host, _view(read, host), results)
        except UnavailableError as error:
            logger.warning("no graph of %d x %d tokens, nor any later: %s", *shape, error)
            break
    return graphs


def _buffer(card: Card, tensors: Collection[torch.Tensor]) -> torch.Tensor:
    size, dtype = max(each.numel() for each in tensors), next(iter(tensors)).dtype
    return torch.zeros(size, dtype=dtype, device=card.device)


def _view(buffer: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return buffer[: like.numel()].view(like.shape)


def _capture(
    card: Card, forward: Forward, host: torch.Tensor, inputs: torch.Tensor, results: Outputs
) -> Graph:
    inputs.copy_(host, non_blocking=True)
    arguments = inputs.unbind(0)

    def body() -> None:
        # Copy the module's outputs: they lie in memory that graphs share.
        for result, given in zip(results, forward(*arguments), strict=True):
            result.copy_(given)

    return Graph(inputs, results, card.capture(body))


def _is_right(
    card: Card, forward: Forward, graph: Graph, batches: Sequence[torch.Tensor], tolerance: float
) -> bool:
    """Return whether a graph gives the module's outputs for each batch, and the first once more."""
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
