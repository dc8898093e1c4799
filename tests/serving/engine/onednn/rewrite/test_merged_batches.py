"""Merged batches get what each gets alone, and are apart where they cannot be merged."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
import torch

from tests.cpu import needs_bfloat16, needs_int8
from tests.serving.engine.onednn.helpers import apart, floats, ids, load, reload
from tests.serving.engine.onednn.models import (
    DYNAMIC,
    Make,
    albert,
    bert,
    distilbert,
    gpt2,
    llama,
    load_model,
    roberta,
)
from torchscript_bundle.serving.artifact import MODULE_FILE, Bundle
from torchscript_bundle.serving.engine.onednn import Packed, calibrate, pack, pack_int8
from torchscript_bundle.serving.engine.onednn.find import find_layers
from torchscript_bundle.serving.engine.onednn.find.linears import is_packable
from torchscript_bundle.serving.engine.onednn.frozen_graphs import frozen_graphs
from torchscript_bundle.serving.engine.onednn.rewrite.merged_batches import merge_batches

Artifact = Callable[[str], Path]
COUNTS = (2, 4)
#: Of merged batches; none was compared when the module was packed.
SHAPES = [(3, 17), (1, 9), (5, 64), (2, 33)]
SINGLE = [(1, 17), (1, 9), (1, 64), (1, 33)]


def assert_merged_equals_apart(
    packed: Packed, inputs: int, tolerance: float, shapes: list[tuple[int, int]] = SHAPES
) -> None:
    """Fails unless each batch gets what it gets in a pass of its own."""
    assert list(packed.joined) == list(COUNTS)
    with torch.inference_mode():
        for count in COUNTS:
            batches = [ids(*shape, inputs) for shape in shapes[-count:]]
            together = packed.joined[count](*chain.from_iterable(batches))
            assert len(together) == count
            for batch, outputs in zip(batches, together, strict=True):
                assert apart(packed(*batch), outputs) <= tolerance


@pytest.mark.parametrize("name", DYNAMIC)
def test_batches_of_any_shape(artifact: Artifact, name: str) -> None:
    module, bundle = load(artifact(name) / MODULE_FILE), Bundle.load(artifact(name))
    inputs = len(bundle.inputs)
    rows = 3 if bundle.dynamic_batch else 1
    packed = pack(module, {"forward": [ids(1, 8, inputs), ids(rows, 12, inputs)]}, counts=COUNTS)
    shapes = SHAPES if bundle.dynamic_batch else SINGLE
    assert_merged_equals_apart(packed, inputs, 1e-5, shapes)


@needs_bfloat16
@pytest.mark.parametrize("make", [albert, llama, bert, gpt2])
def test_bfloat16(make: Make, tmp_path: Path) -> None:
    module = load_model(make, tmp_path)
    packed = pack(module, {"forward": [ids(1, 8), ids(3, 12)]}, torch.bfloat16, COUNTS)
    assert_merged_equals_apart(packed, 2, 2e-2)


@needs_int8
@pytest.mark.parametrize("make", [bert, roberta, distilbert, gpt2])
def test_int8(make: Make, tmp_path: Path) -> None:
    """Scales are fixed, so that company changes a number by one rounding step at most."""
    module = load_model(make, tmp_path)
    calibration = calibrate(module, [ids(1, length) for length in range(4, 64, 4)])
    packed = pack_int8(module, [ids(1, 8), ids(3, 12)], calibration, COUNTS)
    assert_merged_equals_apart(packed, 2, 1e-3)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_linear_layers_run_once_for_all_batches(artifact: Artifact, name: str) -> None:
    graph = frozen_graphs(load(artifact(name) / MODULE_FILE), ["forward"])["forward"]
    find_layers(graph)
    layers = sum(map(is_packable, graph.nodes()))
    merged = merge_batches(graph, 4, assume_same_shape=True)
    assert sum(map(is_packable, merged.nodes())) == layers > 8
    norms = [
        sum(node.kind() == "aten::layer_norm" for node in each.nodes()) for each in (graph, merged)
    ]
    # One stands before any linear layer, so that each batch has its own.
    assert norms[1] == norms[0] + 3


class Branch(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        if x.size(1) > 2:
            x = self.layer(x)
        return (x,)


class InPlace(Branch):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        y = self.layer(x)
        y[:, 0] = 1.0
        return (y,)


class ByNumber(Branch):
    """Multiplies by a number that is the batch's own."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.layer(x) * x.size(1),)


class ByBatch(Branch):
    """Adds what is the batch's own to what is each token's."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        tokens = self.layer(x)
        return (tokens + self.layer(tokens.mean(dim=1, keepdim=True)),)


def two_batches() -> list[tuple[torch.Tensor]]:
    return [(floats(1, 4, 8),), (floats(3, 5, 8, seed=1),)]


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Branch, "a linear layer runs in a loop or branch"),
        (InPlace, "aten::copy_ may write into what batches share"),
    ],
)
def test_batches_that_could_not_be_told_apart_are_not_merged(
    module: type[Branch], reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    packed = pack(
        reload(module(), tmp_path / "module.pt"), {"forward": two_batches()}, counts=COUNTS
    )
    assert packed.reason is None
    assert not packed.joined
    assert caplog.messages == [f"each batch is a pass of its own: {reason}"]


@pytest.mark.parametrize("module", [ByNumber, ByBatch])
def test_what_is_a_batch_s_own_stays_so(module: type[Branch], tmp_path: Path) -> None:
    loaded = reload(module(), tmp_path / "module.pt")
    packed = pack(loaded, {"forward": two_batches()}, counts=(2,))
    assert packed.reason is None
    batches = [(floats(2, 3, 8),), (floats(4, 7, 8, seed=1),)]
    with torch.inference_mode():
        found = packed.joined[2](*chain.from_iterable(batches))
        for one, each in zip(batches, found, strict=True):
            assert apart(loaded(*one), each) <= 1e-5
