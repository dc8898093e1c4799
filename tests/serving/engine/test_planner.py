"""Which rows share a batch, and which batches a pass."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serving.helpers import BUNDLE, STATIC
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.engine.costs import CostModel
from torchscript_bundle.serving.engine.padding import padded_length
from torchscript_bundle.serving.engine.planner import (
    BATCH,
    MERGE_COUNTS,
    cut,
    cut_pass,
    plan_batches,
    plan_passes,
    price,
    useful_merge_counts,
)

SHORT = replace(BUNDLE, min_length=1)
ONE_BY_ONE = replace(BUNDLE, dynamic_batch=False)
WHOLE = replace(SHORT, reads_padding=True)
ONE_SHAPE = replace(STATIC, traced_lengths=(64,), dynamic_batch=False)


@pytest.mark.parametrize(
    ("bundle", "plan"),
    [
        (BUNDLE, [[1, 4], [2, 0], [3]]),
        (WHOLE, [[1], [4], [2], [0], [3]]),
        (STATIC, [[1, 4], [2], [0], [3]]),
        (replace(STATIC, dynamic_batch=False), [[1], [4], [2], [0], [3]]),
    ],
)
def test_plan_of_batches(bundle: Bundle, plan: list[list[int]]) -> None:
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
    assert plan_batches([12, 8, 60, 12], SHORT, 8, CostModel(call)) == plan


def test_attention_makes_long_passes_dearer() -> None:
    lengths = [200] * 3 + [250]
    assert cut(lengths, CostModel(500.0), 8) == [4]
    assert cut(lengths, CostModel(500.0, pair=0.01), 8) == [3, 4]


@pytest.mark.parametrize(
    ("bundle", "max_rows", "counts"),
    [
        (BUNDLE, 16, (2, 4, 8)),
        (BUNDLE, 4, (2, 4)),
        (BUNDLE, 1, ()),
        (ONE_BY_ONE, 8, (2, 4, 8)),
        (replace(BUNDLE, min_length=64), 8, ()),
        (STATIC, 8, ()),
        (replace(STATIC, traced_lengths=(64,)), 8, ()),
        (ONE_SHAPE, 8, (2, 4, 8)),
    ],
)
def test_counts_that_are_of_use(bundle: Bundle, max_rows: int, counts: tuple[int, ...]) -> None:
    assert useful_merge_counts(bundle, max_rows) == counts


@settings(deadline=None, max_examples=300, derandomize=True)
@given(
    lengths=st.lists(st.integers(1, 64), max_size=40),
    max_rows=st.integers(1, 17),
    bundle=st.sampled_from([BUNDLE, ONE_BY_ONE, WHOLE, STATIC]),
)
def test_every_row_runs_once_in_a_pass_that_there_is(
    lengths: list[int], max_rows: int, bundle: Bundle
) -> None:
    counts = useful_merge_counts(bundle, max_rows)
    passes = plan_passes(lengths, bundle, max_rows, merge_counts=counts)
    rows = [list(chain.from_iterable(batches)) for batches in passes]
    assert sorted(chain.from_iterable(rows)) == list(range(len(lengths)))
    assert all(len(batches) in (1, *counts) for batches in passes)
    assert all(len(each) <= max_rows for each in rows)
    for batch in chain.from_iterable(passes):
        assert bundle.dynamic_batch or len(batch) == 1
        if bundle.reads_padding or not bundle.dynamic_length:
            assert len({padded_length(lengths[index], bundle) for index in batch}) == 1


@pytest.mark.parametrize(
    ("bundle", "passes"),
    [
        (SHORT, [[[1], [3], [0], [2]]]),
        (replace(SHORT, max_length=128), [[[1], [3], [0], [2]]]),
        (replace(SHORT, dynamic_batch=False), [[[1], [3], [0], [2]]]),
        (WHOLE, [[[1], [3], [0], [2]]]),
        (STATIC, [[[1]], [[3, 0]], [[2]]]),
        (replace(STATIC, dynamic_batch=False), [[[1]], [[3]], [[0]], [[2]]]),
        (ONE_SHAPE, [[[1], [3], [0], [2]]]),
    ],
)
def test_plan_of_passes(bundle: Bundle, passes: list[list[list[int]]]) -> None:
    counts = useful_merge_counts(bundle, 8)
    assert plan_passes([30, 3, 64, 17], bundle, 8, merge_counts=counts) == passes


def test_batches_beyond_a_count_are_the_next_pass() -> None:
    lengths = [5, 6, 7, 8, 9, 10, 11]
    plan = plan_passes(lengths, WHOLE, 8, merge_counts=MERGE_COUNTS)
    assert [len(batches) for batches in plan] == [4, 2, 1]


@settings(deadline=None, max_examples=200, derandomize=True)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=9).map(sorted),
    pair=st.floats(0, 0.01),
    counts=st.sampled_from([(), (2,), (2, 4), (2, 4, 8)]),
)
def test_pass_is_cut_in_the_cheapest_way(
    lengths: list[int], pair: float, counts: tuple[int, ...]
) -> None:
    costs = CostModel(call=10.0, pair=pair)
    every = [
        [*cuts, len(lengths)]
        for count in (1, *counts)
        for cuts in combinations(range(1, len(lengths)), count - 1)
    ]
    ends = cut_pass(lengths, costs, counts)
    assert ends in every
    merged = replace(costs, call=BATCH)
    least = min(total(lengths, each, merged) for each in every)
    assert total(lengths, ends, merged) == pytest.approx(least)


def test_equal_rows_are_one_batch() -> None:
    assert cut_pass([20] * 16, CostModel(), MERGE_COUNTS) == [16]
