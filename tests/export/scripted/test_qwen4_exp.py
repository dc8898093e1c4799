"""Qwen4-Exp's stand-in lets each query read the tokens that the original lets it read."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from architectures.tiny_models import tiny_model
from torchscript_bundle.export.scripted.qwen4_exp import Indexer
from torchscript_bundle.jit import compile

WINDOW = 8 + 4 - 1  # tokens that a query may read: the budget, and a block that is not full


@pytest.fixture(scope="module")
def original() -> Any:
    """A tiny model's indexer: two heads, two blocks of four tokens."""
    modules = tiny_model("qwen4_exp_text", "AutoModelForCausalLM").modules()
    return next(each for each in modules if type(each).__name__ == "Qwen4ExpTextQSAIndexer")


def arguments(batch: int, length: int, kind: torch.dtype) -> tuple[Any, ...]:
    """Hidden states, positions and a causal mask with padding on the left, as the model makes."""
    generator = torch.Generator().manual_seed(length)
    hidden = torch.randn(batch, length, 32, generator=generator)
    angles = torch.arange(length)[None, :, None] * torch.tensor([1.0, 0.1]).repeat(2)
    positions = (angles.cos().expand(batch, -1, -1), angles.sin().expand(batch, -1, -1))
    gaps = torch.arange(batch) * length // (2 * batch)
    real = torch.arange(length) >= gaps[:, None]
    mask = (torch.ones(length, length).tril().bool() & real[:, None])[:, None]
    if kind != torch.bool:
        mask = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(kind).min)
    return hidden, positions, mask, None


@pytest.mark.parametrize("kind", [torch.bool, torch.float32])
@pytest.mark.parametrize(("batch", "length"), [(1, 1), (1, 3), (2, 4), (3, 13), (2, 60)])
@torch.no_grad()
def test_as_the_original(original: Any, batch: int, length: int, kind: torch.dtype) -> None:
    given = arguments(batch, length, kind)
    indexer = compile(Indexer(original), in_place=False)
    chosen = indexer(*given)
    assert torch.equal(chosen, original(*given))
    assert chosen.sum(-1).max() == min(length, WINDOW)


@torch.no_grad()
def test_equal_scores_are_settled_as_the_original_settles_them(original: Any) -> None:
    """Without queries every score is 0, and `topk` takes some blocks all the same."""
    hidden, positions, mask, cache = arguments(2, 60, torch.bool)
    given = (torch.zeros_like(hidden), positions, mask, cache)
    chosen = compile(Indexer(original), in_place=False)(*given)
    assert torch.equal(chosen, original(*given))
    assert not torch.equal(chosen[:, :, -1], chosen[:, :, -1].flip(-1))


def test_the_weights_are_the_original_s(original: Any) -> None:
    taken = set(Indexer(original).parameters())
    assert taken == set(original.parameters())
