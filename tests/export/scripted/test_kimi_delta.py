"""The scripted Kimi delta rule answers as transformers' own, over any number of chunks."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
from transformers.models.bailing_hybrid import modeling_bailing_hybrid
from transformers.models.kimi_linear import modeling_kimi_linear

from architectures.tiny_models import tiny_model
from tests.jit.helpers import saved
from torchscript_bundle.export.hints import traceable
from torchscript_bundle.export.scripted.kimi_delta import chunk_kimi_delta_attention
from torchscript_bundle.export.wrappers import wrap_model
from torchscript_bundle.jit.compilation import trace
from torchscript_bundle.jit.tracing import Tensors, record_tracer_warnings
from torchscript_bundle.jit.verify import TOLERANCE, Shape, verify

INPUTS = ("input_ids", "attention_mask")
FILES = [modeling_bailing_hybrid, modeling_kimi_linear]
#: Batch, length, heads: less than a chunk, whole ones, and parts.
SIZES = [(1, 1, 2), (2, 64, 4), (3, 65, 1), (2, 200, 2)]


@pytest.mark.parametrize("stateful", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(("batch", "length", "heads"), SIZES)
@torch.no_grad()
def test_as_the_original(batch: int, length: int, heads: int, scaled: bool, stateful: bool) -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, batch, length, heads, 8) * 0.3
    value = torch.randn(batch, length, heads, 6)
    decay = -2 * torch.rand(batch, length, heads, 8)
    beta = torch.rand(batch, length, heads)
    state = torch.randn(batch, heads, 8, 6) if stateful else None
    original = inspect.unwrap(FILES[-1].chunk_kimi_delta_attention)
    options = {
        "initial_state": state,
        "output_final_state": True,
        "use_qk_l2norm_in_kernel": scaled,
    }
    given = chunk_kimi_delta_attention(query, key, value, decay, beta, **options)
    expected = original(query, key, value, decay, beta, **options)
    for one, other in zip(given, expected, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() <= TOLERANCE * other.abs().max()


def test_the_rule_is_the_same_wherever_it_stands() -> None:
    sources = {inspect.getsource(inspect.unwrap(each.chunk_kimi_delta_attention)) for each in FILES}
    assert len(sources) == 1
    assert "chunk_size=64" in sources.pop()


def rows(batch: int, length: int) -> Tensors:
    """Ids and mask, with padding on the left, none in the last row."""
    generator = torch.Generator().manual_seed(100 * batch + length)
    ids = torch.randint(4, 300, (batch, length), generator=generator)
    gaps = torch.arange(batch).flip(0) * length // (2 * batch)
    mask = (torch.arange(length) >= gaps[:, None]).long()
    return ids * mask, mask


@pytest.mark.parametrize("length", [20, 128])
@pytest.mark.parametrize("model_type", ["bailing_hybrid", "kimi_linear"])
def test_a_trace_takes_any_number_of_chunks(model_type: str, length: int, tmp_path: Path) -> None:
    model = tiny_model(model_type, "AutoModelForCausalLM")
    adapted = wrap_model(traceable(model), INPUTS)
    with record_tracer_warnings():
        loaded = saved(trace(adapted, rows(2, length), in_place=False), tmp_path)
    shapes = [(batch, n) for batch in (1, 3) for n in (1, 20, 64, 65, 120)]
    report = verify(
        wrap_model(model, INPUTS), loaded, [(Shape(*each, True), rows(*each)) for each in shapes]
    )
    assert report.holds, report.in_words()
