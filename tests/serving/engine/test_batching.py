"""Rows -> batches -> padded tensors."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serving.helpers import BUNDLE, STATIC
from torchscript_bundle.serving.artifact import Bundle, Padding
from torchscript_bundle.serving.engine.batching import (
    PADDINGS,
    Tokens,
    cut,
    pad_batch,
    padded_length,
    plan_batches,
    price,
)
from torchscript_bundle.serving.engine.costs import CostModel
from torchscript_bundle.serving.text.tokenizer import Row

ONE_BY_ONE = replace(STATIC, dynamic_batch=False)
ROWS = [Row([5, 6, 7], [0, 1, 1], False, False), Row([8], [1], False, False)]


@pytest.mark.parametrize(
    ("bundle", "length", "padded"),
    [
        (BUNDLE, 1, 8),
        (BUNDLE, 8, 8),
        (BUNDLE, 9, 9),
        (BUNDLE, 64, 64),
        (STATIC, 1, 16),
        (STATIC, 16, 16),
        (STATIC, 17, 32),
        (STATIC, 64, 64),
    ],
)
def test_length_that_a_row_runs_at(bundle: Bundle, length: int, padded: int) -> None:
    assert padded_length(length, bundle) == padded


@pytest.mark.parametrize("bundle", [BUNDLE, STATIC])
def test_length_beyond_the_proof_is_refused(bundle: Bundle) -> None:
    with pytest.raises(ValueError, match="65 tokens, at most 64"):
        padded_length(65, bundle)


@pytest.mark.parametrize(
    ("bundle", "plan"),
    [
        (BUNDLE, [[1, 4], [2, 0], [3]]),
        (replace(BUNDLE, reads_padding=True, min_length=1), [[1], [4], [2], [0], [3]]),
        (STATIC, [[1, 4], [2], [0], [3]]),
        (ONE_BY_ONE, [[1], [4], [2], [0], [3]]),
    ],
)
def test_plan(bundle: Bundle, plan: list[list[int]]) -> None:
    assert plan_batches([20, 3, 16, 64, 4], bundle, max_rows=2) == plan


@settings(deadline=None, max_examples=300, derandomize=True)
@given(
    lengths=st.lists(st.integers(1, 64), max_size=40),
    max_rows=st.integers(1, 9),
    dynamic_batch=st.booleans(),
    dynamic_length=st.booleans(),
)
def test_every_row_runs_once_with_rows_of_its_length(
    lengths: list[int], max_rows: int, dynamic_batch: bool, dynamic_length: bool
) -> None:
    bundle = replace(STATIC, dynamic_batch=dynamic_batch, dynamic_length=dynamic_length)
    plan = plan_batches(lengths, bundle, max_rows)
    order = list(chain.from_iterable(plan))
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[index] for index in order] == sorted(lengths)
    assert all(1 <= len(batch) <= (max_rows if dynamic_batch else 1) for batch in plan)
    if not dynamic_length:
        for batch in plan:
            assert len({padded_length(lengths[index], bundle) for index in batch}) == 1


@pytest.mark.parametrize("bundle", [BUNDLE, STATIC])
def test_rows_can_all_be_padded_to_the_greatest_length(bundle: Bundle) -> None:
    padded = PADDINGS["max_length"](bundle)
    assert plan_batches([20, 3, 64, 4], padded, max_rows=8) == [[1, 3, 0, 2]]
    assert pad_batch(ROWS[:1], padded)[0].shape == (1, 64)
    assert PADDINGS["longest"](bundle) is bundle


def cheapest(lengths: list[int], costs: CostModel, max_rows: int) -> float:
    """The least price of all cuts, each tried."""
    if not lengths:
        return 0.0
    return min(
        cheapest(lengths[:-rows], costs, max_rows) + price(costs, rows, lengths[-1])
        for rows in range(1, min(max_rows, len(lengths)) + 1)
    )


def total(lengths: list[int], ends: list[int], costs: CostModel) -> float:
    """The price of one cut."""
    return sum(price(costs, end - start, lengths[end - 1]) for start, end in pairwise([0, *ends]))


COSTS = st.builds(CostModel, call=st.floats(0, 60), pair=st.floats(0, 0.01))
LENGTHS = st.lists(st.integers(1, 60), max_size=9).map(sorted)


@settings(deadline=None, max_examples=300, derandomize=True)
@given(lengths=LENGTHS, costs=COSTS, max_rows=st.integers(1, 9))
def test_cut_is_the_cheapest_of_all(lengths: list[int], costs: CostModel, max_rows: int) -> None:
    ends = cut(lengths, costs, max_rows)
    assert total(lengths, ends, costs) == pytest.approx(cheapest(lengths, costs, max_rows))


@settings(deadline=None, max_examples=100, derandomize=True)
@given(
    lengths=st.lists(st.integers(1, 512), min_size=1, max_size=300).map(sorted),
    costs=COSTS,
    max_rows=st.integers(1, 33),
)
def test_cut_is_never_dearer_than_full_batches(
    lengths: list[int], costs: CostModel, max_rows: int
) -> None:
    ends = cut(lengths, costs, max_rows)
    assert [0, *ends] == sorted({0, *ends}) and ends[-1] == len(lengths)
    assert all(end - start <= max_rows for start, end in pairwise([0, *ends]))
    full = [*range(max_rows, len(lengths), max_rows), len(lengths)]
    assert total(lengths, ends, costs) <= total(lengths, full, costs) + 1e-6


@pytest.mark.parametrize(
    ("call", "plan"),
    [
        (0.0, [[1], [0, 3], [2]]),
        (15.0, [[1, 0, 3], [2]]),
        (1000.0, [[1, 0, 3, 2]]),
    ],
)
def test_dearer_passes_are_fewer(call: float, plan: list[list[int]]) -> None:
    bundle = replace(BUNDLE, min_length=1)
    assert plan_batches([12, 8, 60, 12], bundle, 8, CostModel(call)) == plan


def test_attention_makes_long_passes_dearer() -> None:
    lengths = [200] * 3 + [250]
    assert cut(lengths, CostModel(500.0), 8) == [4]
    assert cut(lengths, CostModel(500.0, pair=0.01), 8) == [3, 4]


def test_tokens_add_up() -> None:
    assert Tokens(8, 5) + Tokens(4, 4) - Tokens(2, 1) == Tokens(10, 8)


@pytest.mark.parametrize(
    ("side", "ids", "mask", "types"),
    [
        ("right", [[5, 6, 7, 9], [8, 9, 9, 9]], [[1, 1, 1, 0], [1, 0, 0, 0]], [[0, 1, 1, 3]]),
        ("left", [[9, 5, 6, 7], [9, 9, 9, 8]], [[0, 1, 1, 1], [0, 0, 0, 1]], [[3, 0, 1, 1]]),
    ],
)
def test_padding_side(side: str, ids: object, mask: object, types: list[list[int]]) -> None:
    padding = Padding(side=side, token_id=9, type_id=3)  # type: ignore[arg-type]
    tensors = pad_batch(ROWS, replace(BUNDLE, min_length=4, padding=padding))
    assert all(tensor.dtype == torch.int64 and tensor.shape == (2, 4) for tensor in tensors)
    assert tensors[0].tolist() == ids
    assert tensors[1].tolist() == mask
    assert tensors[2][:1].tolist() == types


@pytest.mark.parametrize(
    ("bundle", "shape"),
    [(BUNDLE, (2, 8)), (replace(BUNDLE, min_length=2), (2, 3)), (STATIC, (2, 16))],
)
def test_batch_is_as_narrow_as_it_can_be(bundle: Bundle, shape: tuple[int, int]) -> None:
    assert pad_batch(ROWS, bundle)[0].shape == shape


def test_arguments_come_in_the_order_of_the_bundle() -> None:
    bundle = replace(BUNDLE, inputs=("attention_mask", "input_ids"), min_length=3)
    mask, ids = pad_batch(ROWS[:1], bundle)
    assert (mask.tolist(), ids.tolist()) == ([[1, 1, 1]], [[5, 6, 7]])
