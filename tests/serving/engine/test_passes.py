"""Which rows share a pass."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serving.helpers import BUNDLE, STATIC
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.engine.batching import padded_length, price
from torchscript_bundle.serving.engine.costs import CostModel
from torchscript_bundle.serving.engine.passes import (
    BATCH,
    COUNTS,
    plan_passes,
    share,
    useful_counts,
)

ONE_BY_ONE = replace(BUNDLE, dynamic_batch=False)
WHOLE = replace(BUNDLE, reads_padding=True, min_length=1)


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
        (replace(STATIC, traced_lengths=(64,), dynamic_batch=False), 8, (2, 4, 8)),
    ],
)
def test_counts_that_are_of_use(bundle: Bundle, max_rows: int, counts: tuple[int, ...]) -> None:
    assert useful_counts(bundle, max_rows) == counts


@settings(deadline=None, max_examples=300, derandomize=True)
@given(
    lengths=st.lists(st.integers(1, 64), max_size=40),
    max_rows=st.integers(1, 17),
    bundle=st.sampled_from([BUNDLE, ONE_BY_ONE, WHOLE, STATIC]),
)
def test_every_row_runs_once_in_a_pass_that_there_is(
    lengths: list[int], max_rows: int, bundle: Bundle
) -> None:
    counts = useful_counts(bundle, max_rows)
    passes = plan_passes(lengths, bundle, max_rows, counts)
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
        (replace(BUNDLE, min_length=1), [[[1], [3], [0], [2]]]),
        (replace(BUNDLE, min_length=1, max_length=128), [[[1], [3], [0], [2]]]),
        (ONE_BY_ONE, [[[1], [3], [0], [2]]]),
        (
            STATIC,
            [
                [
                    [1],
                ],
                [[3]],
                [[0]],
                [[2]],
            ],
        ),
    ],
)
def test_plan(bundle: Bundle, passes: list[list[list[int]]]) -> None:
    bundle = replace(bundle, dynamic_batch=bundle is not ONE_BY_ONE and bundle.dynamic_length)
    assert plan_passes([30, 3, 64, 17], bundle, 8, useful_counts(bundle, 8)) == passes


def test_batches_beyond_a_count_are_the_next_pass() -> None:
    lengths = [5, 6, 7, 8, 9, 10, 11]
    plan = plan_passes(lengths, WHOLE, 8, COUNTS)
    assert [len(batches) for batches in plan] == [4, 2, 1]


def total(lengths: list[int], ends: list[int], costs: CostModel) -> float:
    """What one cut costs."""
    batch = replace(costs, call=BATCH)
    return sum(price(batch, end - start, lengths[end - 1]) for start, end in pairwise([0, *ends]))


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
    ends = share(lengths, counts, costs)
    assert ends in every
    least = min(total(lengths, each, costs) for each in every)
    assert total(lengths, ends, costs) == pytest.approx(least)


def test_equal_rows_are_one_batch() -> None:
    assert share([20] * 16, COUNTS, CostModel()) == [16]
