"""JetMoE's stand-ins answer as the modules that they stand in for, expert by expert."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from architectures.tiny_models import tiny_model
from torchscript_bundle.export.scripted.jetmoe import Gating, ParallelExperts
from torchscript_bundle.jit import script
from torchscript_bundle.jit.modes import get_compile_mode


@pytest.fixture(scope="module")
def attention() -> Any:
    """A mixture of attention heads: a router and two sets of four experts."""
    model = tiny_model("jetmoe", "AutoModelForCausalLM")
    return model.model.layers[0].self_attention.experts


@pytest.mark.parametrize("tokens", [1, 2, 3, 17, 200])
@torch.no_grad()
def test_gating_counts_as_the_original_does(attention: Any, tokens: int) -> None:
    hidden = torch.randn(tokens, 32, generator=torch.Generator().manual_seed(tokens))
    *expected, sizes, logits = attention.router(hidden)
    *given, counted, scores = Gating(attention.router)(hidden)
    assert all(torch.equal(one, other) for one, other in zip(given, expected, strict=True))
    assert counted.tolist() == sizes
    assert counted.sum() == tokens * attention.top_k
    assert torch.equal(scores, logits)


@pytest.mark.parametrize("sizes", [[3, 1, 4, 2], [0, 5, 0, 5], [10, 0, 0, 0], [0, 0, 0, 10]])
@torch.no_grad()
def test_experts_split_as_they_are_told(attention: Any, sizes: list[int]) -> None:
    experts = script(ParallelExperts(attention.input_linear))
    inputs = torch.randn(10, 32)
    assert torch.equal(experts(inputs, torch.tensor(sizes)), attention.input_linear(inputs, sizes))


def test_the_weights_are_the_original_s(attention: Any) -> None:
    assert ParallelExperts(attention.input_linear).weight is attention.input_linear.weight
    assert Gating(attention.router).layer is attention.router.layer


def test_only_the_experts_are_scripted(attention: Any) -> None:
    assert get_compile_mode(ParallelExperts(attention.input_linear)) == "script"
    assert get_compile_mode(Gating(attention.router)) is None
