"""MiniMax's scripted attention answers as transformers' own, over any number of blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.minimax import modeling_minimax

from architectures.heads import HEADS
from architectures.tiny_models import tiny_model
from tests.jit.helpers import saved
from torchscript_bundle.export.hints import traceable
from torchscript_bundle.export.wrappers import wrap_model
from torchscript_bundle.jit.compilation import trace
from torchscript_bundle.jit.tracing import Tensors, record_tracer_warnings
from torchscript_bundle.jit.verify import Shape, verify

INPUTS = ("input_ids", "attention_mask")
MODES = [name for name, head in HEADS.items() if "minimax" in head.architectures]
#: Less than a block of 8 tokens, whole ones, and parts.
LENGTHS = (1, 7, 8, 16, 33)


def rows(batch: int, length: int, padded: str = "") -> Tensors:
    """Ids and mask, with padding on the side `padded`, from about half a row down to none."""
    generator = torch.Generator().manual_seed(100 * batch + length)
    ids = torch.randint(5, 300, (batch, length), generator=generator)
    mask = torch.ones_like(ids)
    for row in range(batch if padded else 0):
        gap = length * (batch - row) // (2 * batch)
        mask[row, slice(gap) if padded == "left" else slice(length - gap, length)] = 0
    return ids * mask, mask


def test_every_head_is_tried() -> None:
    assert {"question_answering", "text_generation"} < set(MODES)


@pytest.mark.parametrize("length", [7, 16])
@pytest.mark.parametrize("mode", MODES)
def test_answers_are_the_models_at_every_shape(mode: str, length: int, tmp_path: Path) -> None:
    model = tiny_model("minimax", HEADS[mode].auto_class)
    outputs = HEADS[mode].outputs
    adapted = wrap_model(traceable(model), INPUTS, outputs)
    with record_tracer_warnings():
        loaded = saved(trace(adapted, rows(2, length, "left"), in_place=False), tmp_path)
    grid = [
        (Shape(batch, n, bool(padded)), rows(batch, n, padded))
        for batch in (1, 3)
        for n in LENGTHS
        for padded in ("", "left", "right")
    ]
    report = verify(wrap_model(model, INPUTS, outputs), loaded, grid)
    assert report.holds, report.in_words()


@pytest.mark.parametrize("length", LENGTHS)
@torch.no_grad()
def test_a_cache_goes_on_as_the_models(length: int) -> None:
    model: Any = tiny_model("minimax", "AutoModelForCausalLM")
    ids, mask = rows(2, length + 1)
    answers = []
    for each in (model, traceable(model)):
        cache = modeling_minimax.MiniMaxCache()
        options = {"past_key_values": cache, "use_cache": True}
        first = each(ids[:, :-1], mask[:, :-1], **options).logits
        second = each(ids[:, -1:], mask, **options).logits
        answers.append(torch.cat((first, second), dim=1))
    torch.testing.assert_close(answers[1], answers[0])
