"""Tiny models that write, and what is made of them once a run."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from architectures.tiny_models import tiny_model
from torchscript_bundle.export.generation import GeneratorProof, make_generator, read_facts

MAX_LENGTH, MAX_SOURCE_LENGTH = 96, 80


def writer(architecture: str, *, seq2seq: bool = False) -> Any:
    """A tiny model whose answers are varied: its output layer is not its embedding."""
    model = tiny_model(architecture, f"AutoModelFor{'Seq2SeqLM' if seq2seq else 'CausalLM'}")
    head = model.get_output_embeddings()
    torch.manual_seed(1)
    head.weight = torch.nn.Parameter(torch.randn_like(head.weight) * 0.3)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(4)
        for name, parameter in model.named_parameters():
            if "attn" in name.lower() or "attention" in name.lower():
                parameter.add_(torch.randn_like(parameter) * 0.3)
            if name.endswith("bias"):  # the same for all tokens
                parameter.mul_(0.1)
    return model


@cache
def proof(architecture: str, *, seq2seq: bool = False) -> GeneratorProof:
    """Made and proven once; raises where it does not hold."""
    model = writer(architecture, seq2seq=seq2seq)
    return make_generator(model, read_facts(model, MAX_LENGTH, MAX_SOURCE_LENGTH))


def texts(proof: GeneratorProof, batch: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, int64 `[batch, length]`; each row but the last is padded."""
    generator = torch.Generator().manual_seed(10 * batch + length)
    ids = torch.randint(5, 300, (batch, length), generator=generator)
    mask = torch.ones_like(ids)
    for row in range(batch - 1):
        gap = (batch - row) * (length - 1) // (batch + 1)
        filled = slice(0, gap) if proof.facts.start_id < 0 else slice(length - gap, None)
        ids[row, filled], mask[row, filled] = proof.facts.pad_id, 0
    return ids, mask
