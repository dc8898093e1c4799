"""Inputs for tracing: shaped as asked, framed as the tokenizer frames a text."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from tests import tiny
from torchscript_bundle.export.inputs import InputMaker
from torchscript_bundle.jit.verify import Shape

CPU = torch.device("cpu")
THREE = ("input_ids", "attention_mask", "token_type_ids")
CLS, SEP, PAD = 2, 3, 0


def left_padding() -> PreTrainedTokenizerFast:
    """A tokenizer that pads on the left, with a segment of its own for padding."""
    tokenizer = tiny.wordpiece_tokenizer(padding_side="left")
    tokenizer._pad_token_type_id = 1  # as XLNet's class sets its own
    return tokenizer


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("batch", "length"), [(1, 4), (1, 16), (2, 16), (5, 33), (8, 150)])
def test_rows_are_framed_and_padded(batch: int, length: int, padded: bool) -> None:
    ids, mask, types = InputMaker(tiny.wordpiece_tokenizer(), THREE, CPU)(
        Shape(batch, length, padded)
    )
    assert ids.shape == mask.shape == types.shape == (batch, length)
    assert ids.dtype == mask.dtype == types.dtype == torch.int64
    lengths = mask.sum(1)
    for row, filled in zip(ids, lengths, strict=True):
        text = row[:filled]
        assert text[0] == CLS and text[-1] == SEP
        assert not set(text[1:-1].tolist()) & {CLS, SEP, PAD}
        assert (row[filled:] == PAD).all()
    assert not types.any()
    if not padded:
        assert (lengths == length).all()
    elif batch == 1:
        assert lengths[0] < length
    else:
        assert len(set(lengths.tolist())) > 1 and lengths.min() < length


def test_the_largest_batches_mix_padded_and_full_rows() -> None:
    _, mask = InputMaker(tiny.byte_level_tokenizer(), THREE[:2], CPU)(Shape(8, 64, True))
    assert len(set(mask.sum(1).tolist())) == 8
    assert mask.sum(1).max() == 64


def test_padding_on_the_left() -> None:
    make = InputMaker(left_padding(), THREE, CPU)
    ids, mask, types = make(Shape(2, 16, padded=True))
    assert (ids[:, 0] == PAD).all() and (ids[:, -1] == SEP).all()
    assert (mask[:, -1] == 1).all() and mask[0, 0] == 0
    assert torch.equal(types, 1 - mask)


@pytest.mark.parametrize("tokenizer", [tiny.wordpiece_tokenizer(), left_padding()])
def test_pad_fills_as_the_tokenizer_does(tokenizer: PreTrainedTokenizerFast) -> None:
    make = InputMaker(tokenizer, THREE, CPU)
    text = tiny.CORPUS[0]
    alone = tokenizer(text, return_tensors="pt")
    expected = tokenizer(text, return_tensors="pt", padding="max_length", max_length=40)
    padded = make.pad(tuple(alone[name] for name in THREE), 40)
    for name, tensor in zip(THREE, padded, strict=True):
        assert torch.equal(tensor, expected[name]), name


def test_the_same_shape_gives_the_same_rows_and_another_others() -> None:
    first, second = (InputMaker(tiny.wordpiece_tokenizer(), THREE, CPU) for _ in range(2))
    shape = Shape(2, 16, padded=False)
    assert torch.equal(first(shape)[0], second(shape)[0])
    assert not torch.equal(first(shape)[0][0], first(shape)[0][1])
    assert not torch.equal(first(shape)[0][:1], first(Shape(1, 16, padded=False))[0])


def test_a_tokenizer_without_special_tokens_around_a_text() -> None:
    tokenizer = tiny.byte_level_tokenizer()
    tokenizer.backend_tokenizer.post_processor = None
    ids, mask = InputMaker(tokenizer, THREE[:2], CPU)(Shape(2, 9, padded=False))
    assert mask.all()
    assert not set(ids.flatten().tolist()) & set(tokenizer.all_special_ids)


def test_pairs_and_what_a_text_may_spell() -> None:
    tokenizer = tiny.wordpiece_tokenizer()
    make = InputMaker(tokenizer, THREE, CPU, pairs=True)
    assert (make.shortest, make.highest_type) == (3, 1)
    ids, mask, types = make(Shape(1, 32))
    real = tokenizer("a", "a", return_tensors="pt")
    assert ids[0, 0] == CLS and (ids == SEP).sum() == 2 and mask.all()
    assert types[0].tolist() == sorted(types[0].tolist()) and types[0, -1] == 1
    assert torch.equal(make(Shape(1, 3))[0], real["input_ids"][:, [0, 2, 4]])  # of empty texts
    assert not any(part.any() for part in make.without_types((ids, mask, types))[2:])
    spelled = make(Shape(2, 32, spelled=True))[0]
    every = {*tokenizer.all_special_ids, len(tokenizer) - 1}
    assert all(every <= set(row) for row in spelled.tolist())
    assert InputMaker(tokenizer, THREE[:2], CPU, pairs=True).highest_type == 0


def test_each_row_holds_the_token_that_it_must() -> None:
    """From one to three of it, in the shortest row as well."""
    make = InputMaker(tiny.wordpiece_tokenizer(), THREE, CPU, holding=4)
    assert make.shortest == 3
    for shape in (Shape(1, 3), Shape(5, 16, padded=True), Shape(2, 8, padded=True, spelled=True)):
        ids, mask, _ = make(shape)
        held = ((ids == 4) & (mask == 1)).sum(dim=1)
        assert bool((held >= 1).all()), shape
    assert (make(Shape(5, 33))[0] == 4).sum(dim=1).tolist() == [1, 2, 3, 1, 2]
