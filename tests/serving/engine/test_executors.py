"""What runs batches: one by one, or merged into a pass."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.serving.helpers import BUNDLE, CPU
from torchscript_bundle.serving.artifact import Output
from torchscript_bundle.serving.engine.executors import (
    Executor,
    ModuleExecutor,
    PackedExecutor,
    PassRows,
)
from torchscript_bundle.serving.engine.onednn import Packed
from torchscript_bundle.serving.engine.padding import Collator, Outputs, Tokens
from torchscript_bundle.serving.text.tokenizer import Row

COLLATOR = Collator(
    replace(BUNDLE, min_length=1, outputs=(Output("ids", per_token=True),)), CPU, lambda _, o: o
)
SHAPES: list[tuple[int, ...]] = []


def forward(ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> Outputs:
    SHAPES.append(tuple(ids.shape))
    return (ids * mask,)


def forward_of_2(*inputs: torch.Tensor) -> list[Outputs]:
    SHAPES.append((2,))
    return [(inputs[0] * inputs[1],), (inputs[3] * inputs[4],)]


def row(*ids: int) -> Row:
    return Row(list(ids), [0] * len(ids), False, False)


BATCHES: PassRows = [[row(5), row(6, 7)], [row(1, 2, 3, 4)]]


@pytest.mark.parametrize(
    ("executor", "passes", "shapes"),
    [
        (ModuleExecutor(COLLATOR, forward), [[each] for each in BATCHES], [(2, 2), (1, 4)]),
        (
            PackedExecutor(COLLATOR, Packed({"forward": forward}, None, {2: forward_of_2}), "int8"),
            [BATCHES, BATCHES[1:]],
            [(2,), (1, 4)],
        ),
    ],
)
def test_each_row_gets_its_own_outputs_in_order(
    executor: Executor, passes: list[PassRows], shapes: list[tuple[int, ...]]
) -> None:
    SHAPES.clear()
    rows = [each for batches in passes for batch in batches for each in batch]
    found = [ids.tolist() for (ids,) in executor.run_passes(passes)]
    assert found == [each.input_ids for each in rows]
    assert shapes == SHAPES
    padding = 1  # of the first row
    assert executor.tokens == Tokens(sum(map(len, rows)) + padding, sum(map(len, rows)))


def test_executors_say_what_matters_of_them() -> None:
    plain = ModuleExecutor(COLLATOR, forward)
    packed = PackedExecutor(
        COLLATOR, Packed({"forward": forward}, None, {2: forward_of_2}), "bfloat16"
    )
    assert (plain.precision, packed.precision) == ("float32", "bfloat16")
    assert ([*plain.merge_counts], [*packed.merge_counts]) == ([], [2])
    assert (plain.holds_module, packed.holds_module) == (True, False)
    assert plain.warm_up_calls > packed.warm_up_calls
