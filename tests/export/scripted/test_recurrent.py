"""Architectures whose Python loops over tokens are replaced answer as they do eagerly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from architectures.heads import HEADS
from architectures.tiny_models import tiny_model
from tests.jit.helpers import saved
from torchscript_bundle.export.hints import traceable
from torchscript_bundle.export.wrappers import wrap_model
from torchscript_bundle.jit.compilation import trace
from torchscript_bundle.jit.tracing import Tensors, record_tracer_warnings
from torchscript_bundle.jit.verify import Shape, verify

GENERATION = (
    "mamba",
    "falcon_mamba",
    "jamba",
    "zamba",
    "mamba2",
    "bamba",
    "falcon_h1",
    "granitemoehybrid",
    "nemotron_h",
    "zamba2",
    "rwkv",
    "recurrent_gemma",
    "xlstm",
    "cpmant",
)
CASES = [
    *(("text_generation", each) for each in GENERATION),
    *(("sequence_classification", each) for each in ("jamba", "zamba", "zamba2")),
]
INPUTS = ("input_ids", "attention_mask")

each_case = pytest.mark.parametrize(("mode", "model_type"), CASES)


def make(mode: str, model_type: str) -> torch.nn.Module:
    return tiny_model(model_type, HEADS[mode].auto_class)


def traced(model: torch.nn.Module, length: int) -> torch.jit.ScriptModule:
    """A trace of two rows; chunks have 8 tokens."""
    wrapped = wrap_model(traceable(model), INPUTS).eval()
    with record_tracer_warnings():
        return trace(wrapped, rows(2, length, "left"), in_place=False)


def rows(batch: int, length: int, padded: str = "") -> Tensors:
    """Ids and mask, with padding on the side `padded`, from about half a row down to none."""
    generator = torch.Generator().manual_seed(100 * batch + length)
    ids = torch.randint(5, 300, (batch, length), generator=generator)
    mask = torch.ones_like(ids)
    for row in range(batch if padded else 0):
        gap = length * (batch - row) // (2 * batch)
        mask[row, slice(gap) if padded == "left" else slice(length - gap, length)] = 0
    return ids * mask, mask


def grid() -> Iterator[tuple[Shape, Tensors]]:
    for batch in (1, 3):
        for length in (1, 7, 16, 33, 48):
            for padded in ("", "left", "right"):
                yield Shape(batch, length, padded=bool(padded)), rows(batch, length, padded)


@each_case
@pytest.mark.parametrize("length", [7, pytest.param(16, marks=pytest.mark.slow)])
def test_answers_are_the_models_at_every_shape(
    mode: str, model_type: str, length: int, tmp_path: Path
) -> None:
    model = make(mode, model_type)
    loaded = saved(traced(model, length), tmp_path)
    report = verify(wrap_model(model, INPUTS), loaded, grid())
    assert report.holds, report.in_words()


@each_case
def test_graph_does_not_grow_with_the_traced_length(mode: str, model_type: str) -> None:
    model = make(mode, model_type)
    short, long = (str(traced(model, length).inlined_graph) for length in (8, 40))
    assert short.count("\n") == long.count("\n")


@each_case
def test_the_original_stays_as_it_was(mode: str, model_type: str) -> None:
    model = make(mode, model_type)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attributes = {name: set(vars(module)) for name, module in model.named_modules()}
    expected = wrap_model(make(mode, model_type), INPUTS)(*rows(2, 9))
    traced(model, 16)
    assert {name: set(vars(module)) for name, module in model.named_modules()} == attributes
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    assert torch.equal(wrap_model(model, INPUTS)(*rows(2, 9))[0], expected[0])
