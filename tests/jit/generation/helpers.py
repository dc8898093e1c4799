"""Scores for samplers, and a core whose answers can be worked out by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torchscript_bundle.jit import accept_deprecation, trace_module
from torchscript_bundle.jit.generation import Generator

VOCABULARY = 50
HEADS, SIZE = 2, 3


def script(module: torch.nn.Module) -> torch.jit.ScriptModule:
    """As the file has it."""
    with accept_deprecation():
        scripted: torch.jit.ScriptModule = torch.jit.script(module)
    return scripted


def random_scores(rows: int, vocabulary: int = 200) -> Tensor:
    """float `[rows, vocabulary]`, flat ones, steep ones, and some with many equal scores."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(rows, vocabulary, generator=generator)
    scores *= torch.logspace(-2, 1, rows).unsqueeze(1)
    scores[::3] = scores[::3].round(decimals=1)
    return scores[torch.randperm(rows, generator=generator)]


class Adder(torch.nn.Module):
    """Says that the sum of all tokens so far comes next (modulo the vocabulary).

    It adds up what is in its cache, so that a wrong row, place or mask gives another token.
    """

    def prefill(
        self, input_ids: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """As `Generator` wants it, with two buffers: the tokens, and their doubles."""
        # What is in the place of padding must not matter.
        filled = torch.where(attention_mask == 1, input_ids, 1000).float()
        key = filled[:, None, :, None].expand(-1, HEADS, -1, SIZE).clone()
        logits = self._logits(key, 2 * key, attention_mask)
        return logits, attention_mask, attention_mask[:, :0], [key, 2 * key]

    def step(
        self, tokens: Tensor, mask: Tensor, source_mask: Tensor, buffers: list[Tensor]
    ) -> Tensor:
        """As `Generator` wants it."""
        rows, length = mask.shape
        key, value = buffers
        new = tokens[:, None, :, None].float().expand(-1, HEADS, -1, SIZE)
        key[:rows, :, length - 1 : length] = new
        value[:rows, :, length - 1 : length] = 2 * new
        return self._logits(key[:rows, :, :length], value[:rows, :, :length], mask)

    def _logits(self, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        real = mask[:, None, :, None]
        total = ((value - key) * real).sum((1, 2, 3)) / (HEADS * SIZE)
        at = torch.remainder(total.round().long(), VOCABULARY)
        every = torch.arange(VOCABULARY)
        return -0.3 * (every - at.unsqueeze(1)).abs().float()


def adder(**facts: Any) -> torch.jit.ScriptModule:
    """A scripted generator around `Adder`."""
    ids, mask = torch.ones(2, 3, dtype=torch.int64), torch.ones(2, 3, dtype=torch.int64)
    buffers = [torch.zeros(4, HEADS, 9, SIZE) for _ in range(2)]
    step = (ids[:, :1], mask, mask[:, :0], buffers)
    core = trace_module(Adder(), {"prefill": (ids, mask), "step": step}, strict=False)
    given = {
        "growing": 2,
        "vocabulary": VOCABULARY,
        "max_length": 200,
        "max_source_length": 0,
        "eos_ids": [],
        "pad_id": 0,
        "start_id": -1,
        "first_id": -1,
        "last_id": -1,
    }
    return script(Generator(core, **{**given, **facts}))


def padded(texts: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Ids and mask, int64 `[batch, length]`, padded on the left."""
    width = max(map(len, texts))
    ids = torch.tensor([[7] * (width - len(text)) + text for text in texts])
    mask = torch.tensor([[0] * (width - len(text)) + [1] * len(text) for text in texts])
    return ids, mask


def sums(text: list[int], count: int, ends: tuple[int, ...] = ()) -> list[int]:
    """What the adder writes after a text."""
    text, start = list(text), len(text)
    for _ in range(count):
        text.append(sum(text) % VOCABULARY)
        if text[-1] in ends:
            break
    return text[start:]
