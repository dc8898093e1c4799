"""Decoders read at once and step by step, traced, beside the model itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tiny
from tests.jit.helpers import saved, trace
from torchscript_bundle.export.decoder import Decoder, DecoderOutput, empty_cache
from torchscript_bundle.jit.arguments import KeptArguments, keep_arguments
from torchscript_bundle.jit.attention import AttentionMask

WHOLE = ("input_ids", "attention_mask", "position_ids")
STEP = ("input_ids", "attention_mask", "cache")
MAKERS: dict[str, Callable[..., Any]] = {
    "gpt2": tiny.gpt2_lm,
    "llama": tiny.llama_lm,
    "mistral": tiny.mistral_lm,
}
each_model = pytest.mark.parametrize("name", MAKERS)


def make(name: str) -> Any:
    """Logits well apart, so that a shifted position shows."""
    torch.manual_seed(0)
    return MAKERS[name](initializer_range=0.3).eval()


def text(batch: int, length: int) -> tuple[torch.Tensor, AttentionMask]:
    """Ids int64 `[batch, length]`; row i begins with i tokens of padding."""
    torch.manual_seed(batch * 100 + length)
    mask = torch.arange(length)[None] >= torch.arange(batch)[:, None]
    return torch.randint(tiny.VOCABULARY, (batch, length)), AttentionMask(mask)


def expected(model: Any, ids: torch.Tensor, mask: AttentionMask) -> torch.Tensor:
    """The model's own answer to the whole text."""
    output = model(ids, attention_mask=mask.int64(), position_ids=mask.position_ids())
    logits: torch.Tensor = output.logits
    return logits


def step(model: Any, decoder: KeptArguments, batch: int, cached: int, new: int) -> tuple[Any, ...]:
    """The arguments of a step after `cached` tokens were read."""
    ids, mask = text(batch, cached + new)
    cache = empty_cache(model, batch)
    if cached:
        cache = decoder(ids[:, :cached], AttentionMask(mask.mask[:, :cached]), cache).cache
    return ids[:, cached:], mask, cache


def assert_same(output: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal as the exporter's proof means it."""
    assert output.shape == expected.shape
    assert (output - expected).abs().max() <= 1e-5 * expected.abs().max()


@each_model
@torch.no_grad()
def test_trace_with_mask_and_positions_but_no_cache(tmp_path: Path, name: str) -> None:
    model = make(name)
    decoder = keep_arguments(Decoder(model), WHOLE)
    ids, mask = text(2, 6)
    traced = saved(trace(decoder, ids, mask, mask.position_ids()), tmp_path)
    assert [each.name for each in traced.forward.schema.arguments[1:]] == list(WHOLE)
    for batch, length in ((2, 6), (1, 1), (3, 11), (4, 5)):
        ids, mask = text(batch, length)
        (logits,) = traced(ids, mask, mask.position_ids())
        eager = decoder(ids, mask, mask.position_ids())
        assert isinstance(eager, DecoderOutput)
        assert eager.cache is None
        assert_same(logits, eager.logits)
        assert_same(logits[mask.mask], expected(model, ids, mask)[mask.mask])


@each_model
@torch.no_grad()
def test_trace_with_mask_and_cache_but_no_positions(tmp_path: Path, name: str) -> None:
    model = make(name)
    decoder = keep_arguments(Decoder(model), STEP)
    traced = saved(trace(decoder, *step(model, decoder, batch=2, cached=5, new=3)), tmp_path)
    assert [each.name for each in traced.forward.schema.arguments[1:]] == list(STEP)
    for batch, cached, new in ((2, 5, 3), (3, 7, 1), (1, 2, 4), (4, 9, 1), (4, 0, 6)):
        arguments = step(model, decoder, batch, cached, new)
        logits, cache = traced(*arguments)
        eager = decoder(*arguments)
        assert_same(logits, eager.logits)
        for (key, value), layer in zip(cache, eager.cache, strict=True):
            assert key.shape[2] == cached + new
            assert_same(key, layer.key)
            assert_same(value, layer.value)
        ids, mask = text(batch, cached + new)
        real = mask.mask[:, cached:]
        assert_same(logits[real], expected(model, ids, mask)[:, cached:][real])


@each_model
@torch.no_grad()
def test_trace_that_reads_its_own_cache_writes_what_generate_writes(name: str) -> None:
    model = make(name)
    decoder = keep_arguments(Decoder(model), STEP)
    traced = trace(decoder, *step(model, decoder, batch=2, cached=5, new=3))
    ids, mask = text(3, 6)
    greedy = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    written = model.generate(ids, attention_mask=mask.int64(), **greedy)
    cache: Any = empty_cache(model, 3)
    new, real = ids, mask.mask
    for _ in range(8):
        logits, pairs = traced(new, {"mask": real}, cache)
        cache = [{"key": key, "value": value} for key, value in pairs]
        new = logits[:, -1:].argmax(-1)
        ids = torch.cat([ids, new], 1)
        real = torch.cat([real, real.new_ones(3, 1)], 1)
    assert torch.equal(ids, written)


@each_model
@torch.no_grad()
def test_trace_that_saw_an_empty_cache_takes_no_other(name: str) -> None:
    model = make(name)
    decoder = keep_arguments(Decoder(model), STEP)
    traced = trace(decoder, *step(model, decoder, batch=2, cached=0, new=5))
    empty = step(model, decoder, batch=3, cached=0, new=7)
    assert_same(traced(*empty)[0], decoder(*empty).logits)
    with pytest.raises(RuntimeError, match="must match the size"):
        traced(*step(model, decoder, batch=2, cached=4, new=2))


def test_empty_cache_has_the_shapes_of_the_layers() -> None:
    cache = empty_cache(make("llama"), 3)
    assert [tuple(layer.key.shape) for layer in cache] == [(3, 2, 0, 8)] * 2
    assert [tuple(layer.value.shape) for layer in cache] == [(3, 2, 0, 8)] * 2
    assert cache[0].key.dtype == torch.float32


@torch.no_grad()
def test_model_that_takes_no_positions_is_given_none() -> None:
    class NoPositions(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = make("gpt2")

        def forward(self, input_ids: torch.Tensor, **options: Any) -> Any:
            assert "position_ids" not in options
            return self.model(input_ids, **options)

    ids, mask = text(1, 4)
    model = NoPositions()
    assert "position_ids" not in inspect.signature(model.forward).parameters
    assert_same(Decoder(model)(ids, mask).logits, model.model(ids).logits)
