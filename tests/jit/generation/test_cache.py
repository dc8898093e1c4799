"""Rows that leave a cache, and caches that become one, beside plain indexing."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from torchscript_bundle.jit.generation import cache as caches

GROWING = 2


def make(
    lengths: list[int], sources: list[int], first: float = 0.0, spare: int = 2
) -> list[Tensor]:
    """A cache of rows of these lengths, with `spare` slots and places that hold no number."""
    rows, length, width = len(lengths), max(lengths), max(sources)
    mask = torch.tensor([[0] * (length - n) + [1] * n for n in lengths])
    source_mask = torch.tensor([[1] * n + [0] * (width - n) for n in sources])
    cache = [mask, source_mask]
    for index, used in enumerate([length, length, width, width]):
        room = used + (spare if index < GROWING else 0)
        buffer = torch.full((rows + spare, 2, room, 3), torch.nan)
        values = torch.arange(rows * 2 * used * 3).reshape(rows, 2, used, 3)
        buffer[:rows, :, :used] = 1000 * index + first + values
        cache.append(buffer)
    return cache


def contents(cache: list[Tensor], row: int) -> list[Tensor]:
    """A row's keys and values, without padding."""
    rows, length = cache[0].shape
    assert cache[1].shape[0] == rows
    found = []
    for index, buffer in enumerate(cache[2:]):
        used = length if index < GROWING else cache[1].shape[1]
        assert not buffer[:rows, :, :used].isnan().any()
        mask = cache[0] if index < GROWING else cache[1]
        found.append(buffer[row, :, :used][:, mask[row] == 1])
    return found


def assert_same(cache: list[Tensor], row: int, expected: list[Tensor]) -> None:
    assert all(map(torch.equal, contents(cache, row), expected))


@pytest.mark.parametrize(
    "rows", [[], [0, 1, 2, 3], [1, 2, 3], [0, 3, 2], [3, 1], [3, 2, 1, 0], [1, 0], [2, 2, 2, 0, 1]]
)
def test_rows_are_selected(rows: list[int]) -> None:
    before = make([7, 3, 5, 4], [2, 6, 4, 4])
    expected = [contents(before, row) for row in range(4)]
    after = caches.select_rows(before, torch.tensor(rows, dtype=torch.int64), GROWING)
    assert after[0].shape[0] == len(rows)
    for place, row in enumerate(rows):
        assert_same(after, place, expected[row])


def test_padding_that_all_have_in_common_is_dropped() -> None:
    cache = make([9, 3, 5], [8, 2, 4])
    after = caches.select_rows(cache, torch.tensor([1, 2]), GROWING)
    assert (after[0].shape, after[1].shape) == ((2, 5), (2, 4))
    assert after[2].data_ptr() == cache[2][:, :, 4:].data_ptr()  # without a copy


def test_rows_left_are_moved_as_little_as_possible() -> None:
    for finished in itertools.product([False, True], repeat=5):
        rows = caches.rows_left(torch.tensor(finished)).tolist()
        going = [row for row in range(5) if not finished[row]]
        assert sorted(rows) == going
        stay = [row for row in going if row < len(going)]
        assert all(rows[row] == row for row in stay)


@pytest.mark.parametrize("spare", [0, 1, 8])
@pytest.mark.parametrize("other", [[2, 4], [7, 1], [11, 3], [5]])
def test_caches_are_merged(other: list[int], spare: int) -> None:
    sources = [3, 5][: len(other)]
    first, second = make([7, 3, 5], [2, 6, 4], spare=spare), make(other, sources, first=0.5)
    expected = [contents(first, row) for row in range(3)]
    expected += [contents(second, row) for row in range(len(other))]
    merged = caches.merge(first, second, GROWING)
    assert merged[0].shape == (3 + len(other), max(7, *other))
    for row, each in enumerate(expected):
        assert_same(merged, row, each)


def test_rows_join_without_a_copy_of_those_that_are_there() -> None:
    first = make([7, 3], [4, 4], spare=4)
    merged = caches.merge(first, make([5], [4]), GROWING)
    assert [b.data_ptr() for b in merged[2:]] == [b.data_ptr() for b in first[2:]]


def test_empty_cache_merges_both_ways() -> None:
    full = make([4, 2], [3, 1])
    expected = [contents(full, row) for row in range(2)]
    nothing = torch.zeros(0, dtype=torch.int64)
    for pair in ((0, 1), (1, 0)):
        both = [make([4, 2], [3, 1]), caches.select_rows(make([6], [2]), nothing, GROWING)]
        merged = caches.merge(both[pair[0]], both[pair[1]], GROWING)
        assert (merged[0].shape, merged[1].shape) == ((2, 4), (2, 3))
        for row in range(2):
            assert_same(merged, row, expected[row])
