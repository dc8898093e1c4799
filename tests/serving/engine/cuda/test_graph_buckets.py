"""Which shapes are captured, and batches where a pass costs what its bucket costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serving.helpers import BUNDLE, STATIC
from torchscript_bundle.serving.artifact import Bundle, Output
from torchscript_bundle.serving.engine.costs import CostModel
from torchscript_bundle.serving.engine.cuda.graph_buckets import (
    BucketCosts,
    Shape,
    bucket,
    graph_shapes,
    length_buckets,
    row_buckets,
)
from torchscript_bundle.serving.engine.cuda.sizing import TokenLimit
from torchscript_bundle.serving.engine.padding import padded_length
from torchscript_bundle.serving.engine.planner import plan_batches


@pytest.mark.parametrize(
    ("bundle", "lengths"),
    [
        (BUNDLE, (16, 24, 32, 48, 64)),
        (replace(BUNDLE, max_length=150), (16, 24, 32, 48, 64, 96, 128, 150)),
        (replace(BUNDLE, min_length=40), (40, 48, 64)),
        (replace(BUNDLE, min_length=64), (64,)),
        (replace(BUNDLE, max_length=10), (10,)),
        (STATIC, (16, 32, 64)),
        (replace(BUNDLE, reads_padding=True), ()),
        (replace(BUNDLE, outputs=(Output("logits", special="mask"),)), ()),
    ],
)
def test_lengths(bundle: Bundle, lengths: tuple[int, ...]) -> None:
    assert length_buckets(bundle) == lengths


@pytest.mark.parametrize(
    ("most", "rows"), [(1, (1,)), (2, (1, 2)), (5, (1, 2, 4)), (16, (1, 2, 4, 8, 16))]
)
def test_rows(most: int, rows: tuple[int, ...]) -> None:
    assert row_buckets(BUNDLE, most) == rows
    assert row_buckets(replace(BUNDLE, dynamic_batch=False), most) == (1,)


def test_shapes_of_few_tokens_come_first_and_those_of_many_are_left_out() -> None:
    bundle = replace(BUNDLE, max_length=512)
    shapes = graph_shapes(bundle, 64, max_tokens=1_000_000)
    tokens = [rows * length for rows, length in shapes]
    assert tokens == sorted(tokens) and tokens[-1] == 4096
    assert {(1, 16), (64, 64), (8, 512), (32, 128)} <= {*shapes}
    assert len(shapes) == len({*shapes}) < 70
    assert max(rows * length for rows, length in graph_shapes(bundle, 64, 300)) <= 300


@pytest.mark.parametrize(("value", "found"), [(1, 8), (8, 8), (9, 16), (16, 16), (17, None)])
def test_bucket_is_the_first_that_holds(value: int, found: int | None) -> None:
    assert bucket(value, (8, 16)) == found


MUCH = TokenLimit(10**9)
SHORT = replace(BUNDLE, min_length=1)


def plan(
    lengths: list[int],
    bundle: Bundle,
    max_rows: int,
    costs: CostModel,
    shape: Callable[[int, int], Shape],
    limit: TokenLimit,
) -> list[list[int]]:
    return plan_batches(lengths, bundle, max_rows, BucketCosts(costs, shape, limit))


def as_it_is(rows: int, length: int) -> Shape:
    return rows, length


def to_powers(rows: int, length: int) -> Shape:
    """Rows to a power of two, lengths to 16 or 64."""
    return 1 << (rows - 1).bit_length(), bucket(length, (16, 64)) or length


@settings(deadline=None, max_examples=200, derandomize=True)
@given(
    lengths=st.lists(st.integers(1, 64), max_size=300),
    max_rows=st.integers(1, 40),
    tokens=st.integers(1, 4000),
    call=st.floats(0, 4096),
    bundle=st.sampled_from(
        [SHORT, STATIC, replace(SHORT, reads_padding=True), replace(STATIC, dynamic_batch=False)]
    ),
    shape=st.sampled_from([as_it_is, to_powers]),
)
def test_every_row_runs_once_in_a_batch_that_fits(
    lengths: list[int],
    max_rows: int,
    tokens: int,
    call: float,
    bundle: Bundle,
    shape: Callable[[int, int], Shape],
) -> None:
    limit = TokenLimit(tokens)
    batches = plan(lengths, bundle, max_rows, CostModel(call), shape, limit)
    assert sorted(chain.from_iterable(batches)) == list(range(len(lengths)))
    most = max_rows if bundle.dynamic_batch else 1
    for batch in batches:
        assert 1 <= len(batch) <= most
        longest = padded_length(lengths[batch[-1]], bundle)
        assert longest == max(padded_length(lengths[index], bundle) for index in batch)
        if not bundle.dynamic_length or bundle.reads_padding:
            assert len({padded_length(lengths[index], bundle) for index in batch}) == 1
            assert len(batch) == 1 or len(batch) * longest <= tokens
        elif len(batch) > 1:
            rows, length = shape(len(batch), longest)
            assert rows * length <= tokens


@pytest.mark.parametrize(
    ("call", "sizes"),
    [
        (1000.0, [5]),  # three rows that nobody asked for are cheaper than another pass
        (0.0, [1, 4]),
    ],
)
def test_rows_fill_buckets_where_that_is_cheaper(call: float, sizes: list[int]) -> None:
    batches = plan([64] * 5, SHORT, 8, CostModel(call), to_powers, MUCH)
    assert sorted(map(len, batches)) == sizes


def test_lengths_of_one_bucket_share_a_pass() -> None:
    """Though each alone would waste less, were lengths as they are."""
    lengths, costs = [2, 3, 5, 8, 16], CostModel(10.0)
    assert plan(lengths, SHORT, 8, costs, lambda rows, _: (rows, 16), MUCH) == [[0, 1, 2, 3, 4]]
    assert len(plan(lengths, SHORT, 8, costs, as_it_is, MUCH)) > 1


def test_many_rows_are_cut_in_steps() -> None:
    asked = 0

    def count(rows: int, length: int) -> Shape:
        nonlocal asked
        asked += 1
        return to_powers(rows, length)

    batches = plan([9] * 1000 + [60] * 24, SHORT, 128, CostModel(500.0), count, MUCH)
    assert sum(map(len, batches)) == 1024
    assert asked < 5000  # row by row, it would be 123,000
    assert len(batches) <= 10
