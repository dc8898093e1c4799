"""All samplers together, each row with options of its own."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tests.jit.generation.helpers import random_scores, script
from torchscript_bundle.jit.generation import Draw, RepetitionPenalty, Sampler

ROWS = 64


def options(rows: int) -> dict[str, Tensor]:
    """Other options for each row; every third is not sampled."""
    at = torch.arange(rows)
    return {
        "do_sample": at % 3 > 0,
        "temperature": 0.5 + 0.1 * (at % 7).double(),
        "top_k": at % 5 * 10,
        "top_p": 1 - 0.1 * (at % 4).double(),
        "repetition_penalty": 1 + 0.2 * (at % 3).double(),
        "draws": torch.rand(rows, dtype=torch.float64, generator=torch.Generator().manual_seed(5)),
    }


def of_row(given: dict[str, Tensor], row: int) -> dict[str, Tensor]:
    return {name: value[row : row + 1] for name, value in given.items()}


def test_row_gets_the_same_token_alone() -> None:
    logits, given, sampler = random_scores(ROWS), options(ROWS), script(Sampler())
    seen = torch.rand(ROWS, 200, generator=torch.Generator().manual_seed(6)) < 0.2
    together = sampler(logits, seen.clone(), **given)
    for row in range(ROWS):
        alone = sampler(logits[row : row + 1], seen[row : row + 1].clone(), **of_row(given, row))
        assert alone.item() == together[row]


def test_token_is_drawn_from_what_transformers_keeps() -> None:
    logits, given, sampler = random_scores(ROWS), options(ROWS), script(Sampler())
    ids = torch.randint(200, (ROWS, 20), generator=torch.Generator().manual_seed(7))
    seen = torch.zeros(ROWS, 200, dtype=torch.bool).scatter_(1, ids, True)
    tokens = sampler(logits, seen, **given)
    for row in range(ROWS):
        one = {name: value[row].item() for name, value in given.items()}
        processors = LogitsProcessorList(
            [RepetitionPenaltyLogitsProcessor(one["repetition_penalty"])]
        )
        if one["do_sample"]:
            processors.append(TemperatureLogitsWarper(one["temperature"]))
            processors += [TopKLogitsWarper(one["top_k"])] if one["top_k"] else []
            processors += [TopPLogitsWarper(one["top_p"])] if one["top_p"] < 1 else []
        scores = processors(ids[row : row + 1], logits[row : row + 1])
        drawn = Draw()(scores, given["draws"][row : row + 1])
        assert tokens[row] == (drawn.item() if one["do_sample"] else scores.argmax())


def test_tokens_are_noted_as_seen() -> None:
    seen = torch.zeros(ROWS, 200, dtype=torch.bool)
    tokens = script(Sampler())(random_scores(ROWS), seen, **options(ROWS))
    assert torch.equal(seen.nonzero()[:, 1], tokens)


def test_half_precision_logits_are_sampled_in_single() -> None:
    logits = random_scores(ROWS).bfloat16()
    given, sampler = options(ROWS), script(Sampler())
    seen = torch.zeros(ROWS, 200, dtype=torch.bool)
    assert torch.equal(
        sampler(logits, seen.clone(), **given), sampler(logits.float(), seen.clone(), **given)
    )


def test_allowed_options_make_no_score_infinite() -> None:
    """At the ends of their ranges, in every combination, of logits far beyond any model's."""
    ends = itertools.product(
        (0.0, 5e-324, 1e-38, 1e-5, 100.0), (0, 1, 7), (5e-324, 0.5, 1.0), (0.01, 100.0), (0.0, 1.0)
    )
    columns = torch.tensor(list(ends), dtype=torch.float64).unbind(1)
    temperature, top_k, top_p, penalty, draws = columns
    rows = len(temperature)
    for scale in (1.0, 1e4, 1e20):
        logits = random_scores(rows) * scale
        seen = torch.rand(rows, 200, generator=torch.Generator().manual_seed(8)) < 0.5
        sampled = torch.ones(rows, dtype=torch.bool)
        last = torch.nextafter(draws, torch.zeros_like(draws))
        given = (temperature, top_k.long(), top_p, penalty, last)
        tokens = script(Sampler())(logits, seen.clone(), sampled, *given)
        assert (tokens >= 0).all() and (tokens < 200).all()
        penalised = RepetitionPenalty()(logits, seen, penalty)
        assert penalised.isfinite().all()
        chosen = penalised.gather(1, tokens.unsqueeze(1)).squeeze(1)
        best = chosen == penalised.amax(1)  # or one that equals it
        assert best[(temperature < 1e-5) | (top_k == 1) | (top_p < 0.5)].all()
