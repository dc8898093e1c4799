"""Each sampler, scripted, beside transformers' processor for it, on 10,000 random rows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tests.jit.generation.helpers import random_scores, script
from torchscript_bundle.jit.generation import RepetitionPenalty, Temperature, TopK, TopP
from torchscript_bundle.jit.generation.top_p import last_kept

ROWS = 10_000


def choices(values: list[float], dtype: torch.dtype = torch.float64) -> Tensor:
    """One of the values for each row."""
    generator = torch.Generator().manual_seed(1)
    return torch.tensor(values, dtype=dtype)[
        torch.randint(len(values), (ROWS,), generator=generator)
    ]


def by_processor(
    scores: Tensor, values: Tensor, make: Callable[[float], LogitsProcessor], ids: Tensor
) -> Tensor:
    """Transformers' answer: rows of one value together."""
    found = scores.clone()
    for value in values.unique():
        rows = values == value
        found[rows] = make(value.item())(ids[rows], scores[rows])
    return found


NO_IDS = torch.zeros(ROWS, 0, dtype=torch.int64)


def test_temperature() -> None:
    scores, values = random_scores(ROWS), choices([0.1, 0.7, 1.0, 1.3, 2.0, 10.0])
    expected = by_processor(scores, values, TemperatureLogitsWarper, NO_IDS)
    assert torch.equal(script(Temperature())(scores, values), expected)


def test_top_k() -> None:
    scores, values = random_scores(ROWS), choices([1, 2, 5, 50, 199, 200, 1000], torch.int64)
    expected = by_processor(scores, values, TopKLogitsWarper, NO_IDS)
    assert torch.equal(script(TopK())(scores, values), expected)


def test_top_k_of_0_keeps_all() -> None:
    scores = random_scores(4) + torch.linspace(0, 1e-3, 200)  # no two are equal
    found = script(TopK())(scores, torch.tensor([0, 1, 0, 3]))
    assert torch.equal(found[[0, 2]], scores[[0, 2]])
    assert torch.isfinite(found[[1, 3]]).sum(1).tolist() == [1, 3]
    assert torch.equal(script(TopK())(scores, torch.zeros(4, dtype=torch.int64)), scores)


@pytest.mark.parametrize(
    ("vocabulary", "after_top_k"), [(200, 0), (200, 20), (2100, 0), (2100, 60)]
)
def test_top_p(vocabulary: int, after_top_k: int) -> None:
    """Also where the vocabulary is so large that it is not sorted."""
    scores = random_scores(ROWS, vocabulary)
    values = choices([0.01, 0.3, 0.5, 0.9, 0.95, 0.999])
    if after_top_k:
        scores = TopKLogitsWarper(after_top_k)(NO_IDS, scores)
    expected = by_processor(scores, values, TopPLogitsWarper, NO_IDS)
    assert torch.equal(script(TopP())(scores, values), expected)


def test_most_of_a_large_vocabulary_is_not_sorted() -> None:
    scores, values = random_scores(999, 2100), torch.full((999,), 0.9, dtype=torch.float64)
    rows = scores.softmax(1).topk(500).values.sum(1) > 0.91
    _, certain = last_kept(scores, values, 512)
    assert certain[rows].float().mean() > 0.5


def test_top_p_of_1_keeps_all() -> None:
    scores = random_scores(3) * 100  # so that the least likely have a probability of 0
    found = script(TopP())(scores, torch.tensor([1.0, 0.5, 1.0], dtype=torch.float64))
    assert torch.equal(found[[0, 2]], scores[[0, 2]])
    assert not torch.isfinite(found[1]).all()


def test_repetition_penalty() -> None:
    scores, values = random_scores(ROWS), choices([0.5, 1.0, 1.1, 1.3, 2.0])
    ids = torch.randint(200, (ROWS, 30), generator=torch.Generator().manual_seed(2))
    seen = torch.zeros(ROWS, 200, dtype=torch.bool).scatter_(1, ids, True)
    expected = by_processor(scores, values, RepetitionPenaltyLogitsProcessor, ids)
    assert torch.equal(script(RepetitionPenalty())(scores, seen, values), expected)
