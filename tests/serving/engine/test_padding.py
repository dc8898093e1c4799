"""Rows -> padded tensors, and outputs -> rows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.serving.helpers import BUNDLE, STATIC
from torchscript_bundle.serving.artifact import Bundle, Padding
from torchscript_bundle.serving.engine.padding import PADDINGS, Tokens, pad_batch, padded_length
from torchscript_bundle.serving.engine.planner import plan_batches
from torchscript_bundle.serving.text.tokenizer import Row

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


@pytest.mark.parametrize("bundle", [BUNDLE, STATIC])
def test_rows_can_all_be_padded_to_the_greatest_length(bundle: Bundle) -> None:
    padded = PADDINGS["max_length"](bundle)
    assert plan_batches([20, 3, 64, 4], padded, max_rows=8) == [[1, 3, 0, 2]]
    assert pad_batch(ROWS[:1], padded)[0].shape == (1, 64)
    assert PADDINGS["longest"](bundle) is bundle


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


def test_batch_can_be_padded_further() -> None:
    assert pad_batch(ROWS, BUNDLE, 24)[0].shape == (2, 24)


def test_arguments_come_in_the_order_of_the_bundle() -> None:
    bundle = replace(BUNDLE, inputs=("attention_mask", "input_ids"), min_length=3)
    mask, ids = pad_batch(ROWS[:1], bundle)
    assert (mask.tolist(), ids.tolist()) == ([[1, 1, 1]], [[5, 6, 7]])
