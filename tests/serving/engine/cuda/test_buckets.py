"""Which shapes are captured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.serving.helpers import BUNDLE, STATIC
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.engine.cuda.buckets import (
    bucket,
    graph_shapes,
    length_buckets,
    row_buckets,
)


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
