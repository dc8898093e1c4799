"""Answers of the exported module beside transformers' own `generate`, token for token."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.export.generation.helpers import proof, texts, writer
from torchscript_bundle.export.generation import GeneratorProof

FIRST = ("gpt2", "mistral", "bloom")
DECODERS = (
    *("gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi", "phi3"),
    *("falcon", "gpt_neox", "opt", "bloom", "mpt", "gptj", "gpt_neo", "codegen", "stablelm"),
    *("gpt_bigcode", "olmo2", "starcoder2", "mixtral", "cohere", "granite", "gpt_oss"),
)
FIRST_SEQ2SEQ = ("t5", "bart")
SEQ2SEQ = (*FIRST_SEQ2SEQ, "mt5", "mbart", "marian", "pegasus", "m2m_100", "blenderbot", "t5gemma")

each_model = pytest.mark.parametrize(
    ("architecture", "seq2seq"),
    [
        pytest.param(name, seq2seq, marks=() if name in first else pytest.mark.slow, id=name)
        for names, first, seq2seq in ((DECODERS, FIRST, False), (SEQ2SEQ, FIRST_SEQ2SEQ, True))
        for name in names
    ],
)


def by_transformers(
    made: GeneratorProof,
    model: Any,
    ids: Tensor,
    mask: Tensor,
    new: int,
    ends: list[int] | None,
    **options: Any,
) -> Tensor:
    """The new tokens."""
    with torch.no_grad():
        written = model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=new,
            eos_token_id=ends,
            pad_token_id=made.facts.pad_id,
            do_sample=False,
            **options,
        )
    begins = 1 if model.config.is_encoder_decoder else ids.shape[1]
    answers: Tensor = written[:, begins:]
    return answers


@each_model
def test_greedy_answers_are_those_of_transformers(architecture: str, seq2seq: bool) -> None:
    made, model = proof(architecture, seq2seq=seq2seq), writer(architecture, seq2seq=seq2seq)
    model.generation_config.eos_token_id = None
    ended_early = 0
    for batch, length in ((1, 4), (3, 11), (5, 40)):
        ids, mask = texts(made, batch, length)
        endless = by_transformers(made, model, ids, mask, 30, None)
        assert torch.equal(made.module.generate(ids, mask, 30, eos_ids=[]), endless)
        # Tokens that rows write early, and others late or not at all.
        ends = [int(endless[0, 2]), int(endless[-1, 7])]
        answers = by_transformers(made, model, ids, mask, 30, ends)
        assert torch.equal(made.module.generate(ids, mask, 30, eos_ids=ends), answers)
        ended_early += int((answers[:, -1] == made.facts.pad_id).sum())
    assert ended_early > 1


@pytest.mark.parametrize(("architecture", "seq2seq"), [("gpt2", False), ("t5", True)])
def test_penalised_answers_are_those_of_transformers(architecture: str, seq2seq: bool) -> None:
    """Row by row, since transformers penalises padding as well."""
    made, model = proof(architecture, seq2seq=seq2seq), writer(architecture, seq2seq=seq2seq)
    model.generation_config.eos_token_id = None
    ids, mask = texts(made, 3, 9)
    together = made.module.generate(ids, mask, 20, repetition_penalty=1.5, eos_ids=[])
    for row in range(3):
        real = mask[row] == 1
        alone = by_transformers(
            made, model, ids[row : row + 1, real], mask[row : row + 1, real], 20, None,
            repetition_penalty=1.5,
        )  # fmt: skip
        assert torch.equal(together[row], alone[0])


@pytest.mark.parametrize(("architecture", "seq2seq"), [("mistral", False), ("bart", True)])
def test_same_seed_gives_the_same_text_alone_and_in_a_batch(
    architecture: str, seq2seq: bool
) -> None:
    made = proof(architecture, seq2seq=seq2seq)
    ids, mask = texts(made, 4, 12)
    options = {"do_sample": True, "temperature": 1.2, "top_k": 40, "top_p": 0.9, "eos_ids": []}
    together = made.module.generate(ids, mask, 20, **options, seeds=[1, 2, 3, 1])
    for row, seed in enumerate([1, 2, 3, 1]):
        real = mask[row] == 1
        alone = made.module.generate(
            ids[row : row + 1, real], mask[row : row + 1, real], 20, **options, seeds=[seed]
        )
        assert torch.equal(together[row], alone[0])
    other = made.module.generate(ids, mask, 20, **options, seeds=[5, 6, 7, 8])
    assert (together != other).any(1).all()


def test_sampled_tokens_come_as_often_as_transformers_draws_them() -> None:
    made, model = proof("gpt2"), writer("gpt2")
    ids, mask = texts(made, 1, 6)
    many = 4000
    options = {"temperature": 0.8, "top_k": 20, "top_p": 0.8}
    ours = made.module.generate(
        ids.expand(many, -1), mask.expand(many, -1), 1, True, **options, seeds=list(range(many))
    )
    torch.manual_seed(0)
    theirs = model.generate(
        ids, attention_mask=mask, max_new_tokens=1, do_sample=True, num_return_sequences=many,
        pad_token_id=0, **options,
    )[:, 6:]  # fmt: skip
    shares = [torch.bincount(tokens.squeeze(1), minlength=304) / many for tokens in (ours, theirs)]
    assert torch.equal(shares[0] > 0, shares[1] > 0)
    assert (shares[0] - shares[1]).abs().max() < 0.04
