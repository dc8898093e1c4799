"""What fits, and what is done where it did not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from torchscript_bundle.serving.engine.cuda.sizing import (
    TokenLimit,
    is_out_of_memory,
    run_in_halves,
)

SAID = "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.11 GiB"
IN_TORCHSCRIPT = (
    f"The following operation failed in the TorchScript interpreter.\nRuntimeError: {SAID}"
)


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (torch.OutOfMemoryError(SAID), True),
        (RuntimeError(IN_TORCHSCRIPT), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
    ],
)
def test_what_says_that_memory_is_short(error: RuntimeError, short: bool) -> None:
    assert is_out_of_memory(error) is short


class Memory:
    """Runs at most `room` rows."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.told: list[int] = []

    def run(self, rows: Sequence[int]) -> list[int]:
        if len(rows) > self.room:
            raise RuntimeError(IN_TORCHSCRIPT)
        return list(rows)


@pytest.mark.parametrize(
    ("room", "passes", "told"),
    [
        (7, [[0, 1, 2, 3, 4, 5, 6]], []),
        (4, [[0, 1, 2, 3], [4, 5, 6]], [7]),
        (2, [[0, 1], [2, 3], [4, 5], [6]], [7, 4, 3]),
        (1, [[0], [1], [2], [3], [4], [5], [6]], [7, 4, 2, 2, 3, 2]),
    ],
)
def test_batch_is_halved_until_it_fits(room: int, passes: list[list[int]], told: list[int]) -> None:
    memory = Memory(room)
    assert run_in_halves(memory.run, range(7), memory.told.append) == passes
    assert memory.told == told


def test_row_that_fits_nowhere_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        run_in_halves(Memory(0).run, range(4), lambda _: None)


def test_other_errors_are_not_tried_again() -> None:
    asked = []

    def fail(rows: Sequence[int]) -> None:
        asked.append(rows)
        raise RuntimeError("the size of tensor a (3) must match")

    with pytest.raises(RuntimeError, match="must match"):
        run_in_halves(fail, range(4), lambda _: None)
    assert len(asked) == 1


def test_failed_pass_is_let_go_before_the_next() -> None:
    """Else its tensors would be in the way of the halves."""
    held = 0

    class Tensors:
        def __init__(self) -> None:
            nonlocal held
            held += 1

        def __del__(self) -> None:
            nonlocal held
            held -= 1

    def run(rows: Sequence[int]) -> int:
        before = held
        tensors = Tensors()
        if len(rows) > 1:
            raise torch.OutOfMemoryError(SAID)
        del tensors
        return before

    assert run_in_halves(run, range(4), lambda _: None) == [0, 0, 0, 0]


def test_tokens_of_a_pass_follow_from_free_memory() -> None:
    limit = TokenLimit.of_memory(free=1_000_000, bytes_per_token=1000.0)
    assert limit.tokens == 800
    assert [limit.rows(length, most=16) for length in (10, 50, 100, 800, 900)] == [16, 16, 8, 1, 1]
    assert TokenLimit.of_memory(1_000_000, bytes_per_token=0.0).tokens == 800_000


def test_pass_that_did_not_fit_lowers_the_limit() -> None:
    limit = TokenLimit(1000)
    limit.lower(600)
    assert limit.tokens == 300
    limit.lower(800)
    assert limit.tokens == 300
