"""Graphs through a stand-in: buffers, buckets, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.serving.engine.cuda.helpers import StandIn
from torchscript_bundle.serving.engine.cuda.card import said
from torchscript_bundle.serving.engine.cuda.graph_buckets import Shape
from torchscript_bundle.serving.engine.cuda.graph_capture import Bounds, Graphs, capture_graphs
from torchscript_bundle.serving.engine.padding import Outputs

SHAPES = [(1, 4), (2, 4), (1, 8), (4, 8)]
AMPLE = Bounds(bytes=2**40, seconds=600.0)


def module(ids: torch.Tensor, mask: torch.Tensor) -> Outputs:
    """Per token and per row, in two dtypes; each row's outputs follow from that row alone."""
    return (ids * mask).unsqueeze(2).float() * torch.tensor([1.0, 0.5]), (ids * mask).sum(dim=1)


def host(shape: Shape, seed: int) -> torch.Tensor:
    """`[arguments, rows, length]`, rows of other lengths each."""
    rows, length = shape
    ids = torch.randint(1, 99, shape, generator=torch.Generator().manual_seed(seed))
    mask = (torch.arange(length) < 1 + (torch.arange(rows)[:, None] + seed) % length).long()
    return torch.stack((ids, mask))


def capture(
    card: StandIn, forward: Callable[..., Outputs] = module, bounds: Bounds = AMPLE
) -> Graphs:
    examples = {shape: [host(shape, 0), host(shape, 1)] for shape in SHAPES}
    return capture_graphs(card, forward, examples, 1e-5, bounds)


def test_graphs_give_what_the_module_gives_in_any_order() -> None:
    graphs = capture(StandIn())
    assert len(graphs) == len(SHAPES)
    for seed in range(2, 6):
        for shape in sorted(SHAPES, key=lambda shape: (shape[0] + seed) % 3):
            given = host(shape, seed)
            graph = graphs.get(shape)
            assert graph is not None
            for found, expected in zip(graph(given), module(*given), strict=True):
                assert torch.equal(found, expected)


def test_batch_runs_in_the_first_bucket_that_holds_it_if_that_has_a_graph() -> None:
    graphs = capture(StandIn())
    assert graphs.shape(1, 3) == (1, 4)
    assert graphs.shape(1, 5) == (1, 8)
    assert graphs.shape(3, 5) == (4, 8)
    assert graphs.shape(2, 8) == (2, 8)  # no graph: as it is
    assert graphs.shape(3, 2) == (3, 2)
    assert graphs.shape(5, 4) == (5, 4)
    assert graphs.shape(1, 9) == (1, 9)
    assert graphs.get((2, 8)) is None


def test_no_graphs_leave_shapes_alone() -> None:
    assert Graphs({}).shape(3, 5) == (3, 5)
    assert len(capture_graphs(StandIn(), module, {}, 1e-5, AMPLE)) == 0


class Baked(StandIn):
    """Repeats what the first computation gave, as a graph of a module does that asks the host."""

    def capture(self, body: Callable[[], None]) -> Callable[[], None]:
        super().capture(body)
        body()
        return lambda: None


def test_graph_that_ignores_its_inputs_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    assert len(capture(Baked())) == 0
    assert "no graph of 1 x 4 tokens: it differs by" in caplog.text


class Sharing(StandIn):
    """A card on which one graph's memory is harmed by the next, when both are there."""

    def capture(self, body: Callable[[], None]) -> Callable[[], None]:
        before = self.left
        replay = super().capture(body)
        return replay if before == 997 else (lambda: None if self.left < 998 else replay())


def test_graphs_are_compared_once_all_are_there() -> None:
    graphs = capture(Sharing(captures=1000))
    assert [shape for shape in SHAPES if graphs.get(shape)] == [(4, 8)]


def test_capture_that_fails_keeps_earlier_graphs(caplog: pytest.LogCaptureFixture) -> None:
    graphs = capture(StandIn(captures=2))
    assert [shape for shape in SHAPES if graphs.get(shape)] == SHAPES[:2]
    assert "no graph of 1 x 8 tokens, nor any later: called a synchronizing" in caplog.text


@pytest.mark.parametrize(
    ("bounds", "count"),
    [(Bounds(250, 600.0), 3), (Bounds(99, 600.0), 1), (Bounds(2**40, -1.0), 0)],
)
def test_graphs_take_no_more_than_they_may(bounds: Bounds, count: int) -> None:
    """A bound is looked at before each, so that one more may begin."""
    graphs = capture(StandIn(graph_bytes=100), bounds=bounds)
    assert len(graphs) == count


def test_tolerance_is_of_the_outputs_scale() -> None:
    calls = 0

    def drifts(ids: torch.Tensor, mask: torch.Tensor) -> Outputs:
        nonlocal calls
        calls += 1
        return tuple(
            each * (1 + 1e-3 * (calls % 2)) if each.is_floating_point() else each
            for each in module(ids, mask)
        )

    examples = {(1, 4): [host((1, 4), 0), host((1, 4), 1)]}
    assert len(capture_graphs(StandIn(), drifts, examples, 1e-2, AMPLE)) == 1
    assert len(capture_graphs(StandIn(), drifts, examples, 1e-5, AMPLE)) == 0


ADVICE = "\nCUDA kernel errors might be asynchronously reported at some other API call"
TRACEBACK = (
    "The following operation failed in the TorchScript interpreter.\nTraceback of TorchScript"
)


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (RuntimeError("called a synchronizing CUDA operation"), "called a synchronizing"),
        (RuntimeError(f"{TRACEBACK} ...\nRuntimeError: called a sync"), "called a sync"),
        (RuntimeError(f"CUDA error: operation not permitted{ADVICE}"), "CUDA error: operation not"),
    ],
)
def test_log_has_what_the_operator_said(error: RuntimeError, why: str) -> None:
    assert said(error).startswith(why)
    assert "\n" not in said(error)
    try:
        try:
            raise error
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")
    except RuntimeError as last:
        assert said(last) == said(error)
