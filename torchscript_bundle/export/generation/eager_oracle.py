"""Outputs of transformers' own `generate`, which a generator is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from torchscript_bundle.export.generation.facts import GeneratorFacts


class _Dictation(LogitsProcessor):
    """Forces `generate` to write the given tokens."""

    def __init__(self, tokens: Tensor) -> None:
        self._columns = iter(tokens.unbind(1))

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        forced = torch.full_like(scores, -torch.inf)
        return forced.scatter(1, next(self._columns).unsqueeze(1), 0.0)


def dictated_logits(
    model: Any, facts: GeneratorFacts, ids: Tensor, mask: Tensor, tokens: Tensor
) -> Tensor:
    """Return the logits before each of the given new tokens, float `[batch, new, vocabulary]`."""
    with _plainly(model, facts, (), tokens.shape[1]):
        written = model.generate(
            ids,
            attention_mask=mask,
            logits_processor=LogitsProcessorList([_Dictation(tokens)]),
            output_logits=True,
            return_dict_in_generate=True,
        )
    return torch.stack(written.logits, 1)


def greedy_answers(
    model: Any, facts: GeneratorFacts, ids: Tensor, mask: Tensor, new: int, eos_ids: tuple[int, ...]
) -> Tensor:
    """Return the best tokens without the texts, int64 `[batch, up to new]`."""
    with _plainly(model, facts, eos_ids, new, forced=True):
        written: Tensor = model.generate(ids, attention_mask=mask)
    return written[:, (ids.shape[1] if facts.start_id < 0 else 1) :]


@contextmanager
def _plainly(
    model: Any, facts: GeneratorFacts, eos_ids: tuple[int, ...], new: int, *, forced: bool = False
) -> Iterator[None]:
    """Replace the generation config by one without the settings that the file does not follow."""
    before = model.generation_config
    model.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=new,
        min_new_tokens=None,
        eos_token_id=list(eos_ids) or None,
        pad_token_id=facts.pad_id,
        bos_token_id=before.bos_token_id,
        decoder_start_token_id=facts.start_id if facts.start_id >= 0 else None,
        forced_bos_token_id=facts.first_id if forced and facts.first_id >= 0 else None,
        forced_eos_token_id=facts.last_id if forced and facts.last_id >= 0 else None,
    )
    try:
        with torch.no_grad():
            yield
    finally:
        model.generation_config = before
