"""The exported methods, around a core whose answers can be worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.jit.generation.helpers import VOCABULARY, adder, padded, sums
from tests.jit.helpers import saved
from torchscript_bundle.jit import accept_deprecation

TEXTS = [[3, 4, 5], [1, 1, 9, 20, 2, 8, 11], [6], [13, 2, 40, 22, 1]]
SAMPLED: dict[str, Any] = {
    "max_new_tokens": 12,
    "do_sample": True,
    "temperature": 1.5,
    "top_k": 20,
    "top_p": 0.95,
    "repetition_penalty": 1.2,
}


def trimmed(answers: Tensor, ends: tuple[int, ...] = ()) -> list[list[int]]:
    """Rows up to what ended them."""
    rows = []
    for row in answers.tolist():
        end = next((at for at, token in enumerate(row) if token in ends), len(row) - 1)
        assert row[end + 1 :] == [0] * (len(row) - end - 1)
        rows.append(row[: end + 1])
    return rows


@pytest.mark.parametrize("new", [1, 2, 80])
def test_greedy_answers(new: int) -> None:
    answers = adder().generate(*padded(TEXTS), new)
    assert answers.tolist() == [sums(text, new) for text in TEXTS]


def test_rows_end_by_themselves() -> None:
    ends = (sums(TEXTS[0], 9)[2], sums(TEXTS[2], 9)[5])
    expected = [sums(text, 40, ends) for text in TEXTS]
    assert len({len(row) for row in expected}) > 2
    for generator, options in ((adder(eos_ids=list(ends)), {}), (adder(), {"eos_ids": ends})):
        found = generator.generate(*padded(TEXTS), 40, **options)
        assert found.shape[1] == max(map(len, expected))
        assert trimmed(found, ends) == expected


def test_rows_that_have_ended_cost_nothing() -> None:
    """A row that is read no more cannot overflow the model's length."""
    generator = adder(max_length=10)
    logits, cache = generator.prefill(*padded([[1] * 9, [2]]), 4)
    logits, cache = generator.step(logits.argmax(1), cache)
    with pytest.raises(Exception, match="a row has 10 tokens already, all the model takes"):
        generator.step(logits.argmax(1), cache)
    cache = generator.select_rows(cache, torch.tensor([1]))
    assert cache[0].shape == (1, 2)
    logits, cache = generator.step(logits[1:].argmax(1), cache)
    assert logits.argmax(1).tolist() == sums([2], 3)[2:]


def test_first_and_last_tokens_that_a_model_forces() -> None:
    answers = adder(first_id=17, last_id=9).generate(*padded(TEXTS), 5)
    for text, answer in zip(TEXTS, answers.tolist(), strict=True):
        assert answer == [17, *sums([*text, 17], 3), 9]


def test_same_seed_gives_the_same_answer_alone_and_in_a_batch() -> None:
    generator, seeds = adder(), [5, 2**62, -3, 5]
    together = generator.generate(*padded(TEXTS), **SAMPLED, seeds=seeds)
    assert torch.equal(together, generator.generate(*padded(TEXTS), **SAMPLED, seeds=seeds))
    for text, seed, answer in zip(TEXTS, seeds, together, strict=True):
        alone = generator.generate(*padded([text]), **SAMPLED, seeds=[seed])
        assert torch.equal(alone[0], answer)
    other = generator.generate(*padded(TEXTS), **SAMPLED, seeds=[6, 7, 8, 9])
    assert (other != together).any(1).all()


def test_without_seeds_torchs_own_randomness_is_used() -> None:
    generator = adder()
    torch.manual_seed(3)
    first = generator.generate(*padded(TEXTS), **SAMPLED)
    second = generator.generate(*padded(TEXTS), **SAMPLED)
    torch.manual_seed(3)
    assert torch.equal(first, generator.generate(*padded(TEXTS), **SAMPLED))
    assert not torch.equal(first, second)


def streamed(generator: Any, text: list[int], seed: int, new: int) -> list[int]:
    """As a worker drives it: a row with a generator of its own, one token at a time."""
    ids, mask = padded([text])
    randomness = torch.Generator().manual_seed(seed)
    seen = generator.seen_tokens(ids, mask)
    options = {name: SAMPLED[name] for name in ("temperature", "top_p", "repetition_penalty")}
    columns = {name: torch.tensor([value]).double() for name, value in options.items()}
    logits, cache = generator.prefill(ids, mask)
    tokens: list[int] = []
    while True:
        draws = torch.rand(1, dtype=torch.float64, generator=randomness)
        top_k = torch.tensor([SAMPLED["top_k"]])
        token = generator.sample(
            logits, seen, torch.tensor([True]), top_k=top_k, draws=draws, **columns
        )
        tokens.append(int(token))
        if len(tokens) == new:
            return tokens
        logits, cache = generator.step(token, cache)


def test_streaming_gives_what_generate_gives() -> None:
    generator = adder()
    answers = generator.generate(*padded(TEXTS), **SAMPLED, seeds=[1, 2, 3, 4])
    for seed, (text, answer) in enumerate(zip(TEXTS, answers.tolist(), strict=True), 1):
        assert streamed(generator, text, seed, 12) == answer


def test_many_numbers_are_drawn_as_one_by_one() -> None:
    one_by_one, at_once = (torch.Generator().manual_seed(9) for _ in range(2))
    singles = [torch.rand(1, dtype=torch.float64, generator=one_by_one) for _ in range(1000)]
    many = torch.rand(1000, dtype=torch.float64, generator=at_once)
    assert torch.equal(torch.cat(singles), many)


def test_seen_tokens_are_those_of_the_text_or_of_the_decoder() -> None:
    ids, mask = padded(TEXTS)
    seen = adder().seen_tokens(ids, mask)
    for text, row in zip(TEXTS, seen, strict=True):
        assert row.nonzero().squeeze(1).tolist() == sorted(set(text))
    assert adder(start_id=4).seen_tokens(ids, mask).nonzero()[:, 1].tolist() == [4] * len(TEXTS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, not 0"),
        ({"temperature": -0.1}, "temperature must be from 0 .the best token. to 100, not -0.1"),
        ({"temperature": math.nan}, "temperature must be from 0"),
        ({"temperature": 101.0}, "temperature must be from 0"),
        ({"top_k": -1}, "top_k must be at least 0"),
        ({"top_p": -0.1}, "top_p must be from 0 .the best token. to 1, not -0.1"),
        ({"top_p": 1.5}, "top_p must be from 0"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be from 0.01 to 100, not 0"),
        ({"repetition_penalty": 101.0}, "repetition_penalty must be from 0.01 to 100"),
        ({"seeds": [1]}, "1 seeds for 4 rows: give one for each"),
        ({"max_new_tokens": 194}, "7 tokens and 194 new ones, where the model takes 200 together"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        adder().generate(*padded(TEXTS), **{"do_sample": True, **options})


def test_temperature_0_and_top_p_0_take_the_best_tokens() -> None:
    best = adder().generate(*padded(TEXTS), 9)
    for temperature in (0.0, 1e-38, 9e-6):
        found = adder().generate(*padded(TEXTS), 9, do_sample=True, temperature=temperature)
        assert torch.equal(found, best)
    assert torch.equal(adder().generate(*padded(TEXTS), 9, do_sample=True, top_p=0.0), best)


def test_text_that_is_too_long_is_refused() -> None:
    with pytest.raises(Exception, match="a text of 12 tokens, where the model takes 9"):
        adder(max_length=9).prefill(*padded([[1] * 12]))
    with pytest.raises(Exception, match="a text of 12 tokens, where the model takes 11"):
        adder(max_source_length=11, start_id=1).prefill(*padded([[1] * 12]))


def test_frozen_and_saved_generator_writes_the_same(tmp_path: Path) -> None:
    generator, methods = adder(), ["prefill", "step", "generate", "max_length"]
    loaded = saved(generator, tmp_path)
    with accept_deprecation():
        frozen = torch.jit.freeze(loaded.eval(), preserved_attrs=methods)
    expected = generator.generate(*padded(TEXTS), **SAMPLED, seeds=[1, 2, 3, 4])
    for other in (loaded, frozen):
        found = other.generate(*padded(TEXTS), **SAMPLED, seeds=[1, 2, 3, 4])
        assert torch.equal(found, expected)
        assert other.max_length == 200
    assert loaded.vocabulary == VOCABULARY
