"""Calls of a generator over packed weights that raise."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.serving.helpers import CPU
from torchscript_bundle.jit import tracing
from torchscript_bundle.serving.artifact import MODULE_FILE
from torchscript_bundle.serving.generation.packed_generator import PackedGenerator, pack_generator

PROMPT = (5, 9, 11)
#: A cache of so many tokens fits into no memory.
ENDLESS = 1 << 50


def load_generator(folder: Path) -> PackedGenerator:
    """Return an artifact's generator over packed weights."""
    generator, reason = pack_generator(tracing.load(folder / MODULE_FILE, CPU), PROMPT, "float32")
    assert reason is None, reason
    assert isinstance(generator, PackedGenerator)
    return generator


def write(generator: Any) -> torch.Tensor:
    """Logits after a prompt and a token."""
    ids = torch.tensor([PROMPT, PROMPT])
    _, cache = generator.prefill(ids, torch.ones_like(ids), 3)
    logits: torch.Tensor = generator.step(torch.tensor([7, 8]), cache)[0]
    return logits


def raising_call(generator: Any, choice: random.Random) -> tuple[str, Callable[[], object]]:
    """Return one of the calls, and its name."""
    ids = torch.tensor([PROMPT, PROMPT])
    mask = torch.ones_like(ids)
    _, cache = generator.prefill(ids, mask, 3)
    wide = torch.ones(1, generator.max_length + generator.max_source_length + 1, dtype=torch.int64)
    tokens = torch.tensor([7, 8])
    few = choice.randint(1, len(cache) - 1)
    calls: dict[str, Callable[[], object]] = {
        "prompt beyond the table": lambda: generator.prefill(ids + 1000000, mask, 3),
        "prompt that is too long": lambda: generator.prefill(wide, wide, 1),
        "prompt with another mask": lambda: generator.prefill(ids, mask[:, :2].repeat(3, 1), 3),
        "prompt of floats": lambda: generator.prefill(ids.float(), mask, 3),
        "prompt without memory": lambda: generator.prefill(ids, mask, ENDLESS),
        "prompts without memory": lambda: generator.prefill(
            ids[:1].expand(1 << 40, -1), mask[:1].expand(1 << 40, -1), 3
        ),
        "token beyond the table": lambda: generator.step(tokens + 1000000, cache),
        "token below the table": lambda: generator.step(tokens - 1000000, cache),
        "tokens of other rows": lambda: generator.step(torch.tensor([7, 8, 9]), cache),
        "token of floats": lambda: generator.step(tokens.float(), cache),
        "cache with too few tensors": lambda: generator.step(tokens, cache[:few]),
        "cache of another kind": lambda: generator.step(tokens, [each.bool() for each in cache]),
        "cache cut": lambda: generator.step(tokens, [each[:1] for each in cache]),
        "rows that are not there": lambda: generator.select_rows(cache, torch.tensor([99])),
    }
    return choice.choice(list(calls.items()))
