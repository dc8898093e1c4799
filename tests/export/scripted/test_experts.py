"""Scripted loops over experts answer as transformers' loops do, whichever experts are chosen."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from architectures.tiny_models import tiny_model
from torchscript_bundle.export.scripted.experts import (
    DbrxExperts,
    Experts,
    LongcatFlashExperts,
    PrivacyFilterExperts,
)
from torchscript_bundle.jit import script

#: model_type, Auto class, class of the original, stand-in, number of experts.
KINDS = [
    ("dbrx", "AutoModelForCausalLM", "DbrxExperts", DbrxExperts, 4),
    ("longcat_flash", "AutoModelForCausalLM", "LongcatFlashExperts", LongcatFlashExperts, 18),
    (
        "openai_privacy_filter",
        "AutoModelForTokenClassification",
        "OpenAIPrivacyFilterExperts",
        PrivacyFilterExperts,
        4,
    ),
]

each_kind = pytest.mark.parametrize(
    ("kind", "auto_class", "name", "stand_in", "count"), KINDS, ids=[each[0] for each in KINDS]
)


def original(kind: str, auto_class: str, name: str) -> Any:
    """The first module of a class in a tiny model."""
    modules = tiny_model(kind, auto_class).modules()
    return next(each for each in modules if type(each).__name__ == name)


def routing(tokens: int, experts: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Two different experts of a list for each token, and their weights: `[tokens, 2]` each."""
    generator = torch.Generator().manual_seed(tokens)
    order = torch.rand(tokens, len(experts), generator=generator).argsort(1)[:, :2]
    return torch.tensor(experts)[order], torch.rand(tokens, 2, generator=generator)


@each_kind
@torch.no_grad()
def test_as_the_original(
    kind: str, auto_class: str, name: str, stand_in: type[Experts], count: int
) -> None:
    eager = original(kind, auto_class, name)
    experts = script(stand_in(eager))
    assert experts.num_experts == count
    for chosen in (list(range(count)), [0, 1], [count - 2, count - 1], [1, count - 1]):
        for tokens in (1, 2, 7, 40):
            hidden = torch.randn(tokens, 32)
            index, weights = routing(tokens, chosen)
            answer = experts(hidden, index, weights)
            assert torch.equal(answer, eager(hidden, index, weights).view(tokens, 32))
            assert answer.abs().max() > 0


@each_kind
def test_the_weights_are_the_original_s(
    kind: str, auto_class: str, name: str, stand_in: type[Experts], count: int
) -> None:
    eager = original(kind, auto_class, name)
    assert dict(stand_in(eager).named_parameters()) == dict(eager.named_parameters())


@torch.no_grad()
def test_rows_of_tokens_keep_their_shape() -> None:
    """DBRX hands a batch over as it is, the others one row of tokens."""
    eager = original(*KINDS[0][:3])
    hidden = torch.randn(3, 5, 32)
    index, weights = routing(15, [0, 2, 3])
    answer = script(DbrxExperts(eager))(hidden, index, weights)
    assert answer.shape == hidden.shape
    assert torch.equal(answer, eager(hidden, index, weights))
