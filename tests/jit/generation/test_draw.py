"""Numbers that become tokens."""

from __future__ import annotations

import torch

from tests.jit.generation.helpers import random_scores, script
from torchscript_bundle.jit.generation import Draw


def test_tokens_are_drawn_as_often_as_their_probability_says() -> None:
    scores = random_scores(1, vocabulary=8).expand(200_000, -1)
    draws = torch.rand(200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tokens = script(Draw())(scores, draws)
    found = torch.bincount(tokens, minlength=8) / 200_000
    assert (found - scores[0].softmax(0)).abs().max() < 0.005


def test_tokens_that_are_out_are_never_drawn() -> None:
    out = -float("inf")
    scores = torch.tensor([[out, 0.0, out, 0.0, out]])
    draws = torch.tensor([0.0, 0.49, 0.5, 1 - 2**-53], dtype=torch.float64)
    assert script(Draw())(scores.expand(4, -1), draws).tolist() == [1, 1, 3, 3]


def test_largest_draw_falls_on_a_token_whatever_the_rounding() -> None:
    scores = random_scores(2000)
    scores[:, -1] = -float("inf")
    last = torch.full((2000,), 1 - 2**-53, dtype=torch.float64)
    assert script(Draw())(scores, last).max() < 199
