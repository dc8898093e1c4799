"""The scripted gated delta rule answers as transformers' own, over any number of chunks."""

from __future__ import annotations

import inspect

import pytest
import torch
from transformers.models.olmo_hybrid import modeling_olmo_hybrid
from transformers.models.qwen3_5 import modeling_qwen3_5
from transformers.models.qwen3_5_moe import modeling_qwen3_5_moe
from transformers.models.qwen3_next import modeling_qwen3_next
from transformers.models.qwen4_exp import modeling_qwen4_exp

from torchscript_bundle.export.scripted.gated_delta import chunk_gated_delta_rule
from torchscript_bundle.jit.verify import TOLERANCE

FILES = [
    modeling_olmo_hybrid,
    modeling_qwen3_5,
    modeling_qwen3_5_moe,
    modeling_qwen3_next,
    modeling_qwen4_exp,
]
#: Batch, length, heads of keys and of values: less than a chunk, whole ones, and parts.
SIZES = [(1, 1, 2, 2), (2, 64, 2, 4), (3, 65, 1, 4), (2, 200, 2, 2)]


@pytest.mark.parametrize("stateful", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(("batch", "length", "heads", "value_heads"), SIZES)
@torch.no_grad()
def test_as_the_original(
    batch: int, length: int, heads: int, value_heads: int, scaled: bool, stateful: bool
) -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, batch, length, heads, 8) * 0.3
    value = torch.randn(batch, length, value_heads, 6)
    decay = -2 * torch.rand(batch, length, value_heads)
    beta = torch.rand(batch, length, value_heads)
    state = torch.randn(batch, value_heads, 8, 6) if stateful else None
    original = inspect.unwrap(FILES[-1].torch_chunk_gated_delta_rule)
    options = {
        "initial_state": state,
        "output_final_state": True,
        "use_qk_l2norm_in_kernel": scaled,
    }
    given = chunk_gated_delta_rule(query, key, value, decay, beta, **options)
    for one, other in zip(given, original(query, key, value, decay, beta, **options), strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() <= TOLERANCE * other.abs().max()


def test_the_rule_is_the_same_wherever_it_stands() -> None:
    sources = {
        inspect.getsource(inspect.unwrap(each.torch_chunk_gated_delta_rule)) for each in FILES
    }
    assert len(sources) == 1
    assert "chunk_size: int = 64" in sources.pop()
