"""Longformer and LED answer as in transformers, whatever the text, its padding and the window."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from architectures.heads import HEADS
from architectures.tiny_models import NOISE, tiny_config
from tests.jit.helpers import saved
from torchscript_bundle.export.hints import traceable
from torchscript_bundle.export.wrappers import wrap_model
from torchscript_bundle.jit.compilation import trace
from torchscript_bundle.jit.tracing import Tensors, record_tracer_warnings
from torchscript_bundle.jit.verify import Shape, verify

INPUTS = ("input_ids", "attention_mask")
GLOBAL = (*INPUTS, "global_attention_mask")
SEQUENCE, TOKENS = "LongformerForSequenceClassification", "LongformerForTokenClassification"
QUESTIONS, LED = "LongformerForQuestionAnswering", "LEDForQuestionAnswering"
CLASSES = (SEQUENCE, TOKENS, "LongformerForMaskedLM", LED)
CLS, SEP = 2, 3

#: Smaller than the texts, larger, and one for each layer.
each_window = pytest.mark.parametrize("window", [8, 64, [4, 16]])
#: Of the example: with a text to be filled up, and with one of whole windows.
each_length = pytest.mark.parametrize("length", [13, 64])


def make(name: str, window: int | list[int] = 8) -> Any:
    """A tiny random model."""
    model_class = getattr(transformers, name)
    config = tiny_config(model_class.config_class.model_type)
    config.attention_window = window
    torch.manual_seed(0)
    model = model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * NOISE)
    return model


def wrapped(model: torch.nn.Module, names: tuple[str, ...] = INPUTS) -> torch.nn.Module:
    is_asked = "QuestionAnswering" in type(model).__name__
    head = HEADS["question_answering" if is_asked else "token_classification"]
    return wrap_model(model, names, head.outputs).eval()


def traced(
    model: torch.nn.Module, example: Tensors, names: tuple[str, ...] = INPUTS
) -> torch.jit.ScriptModule:
    with record_tracer_warnings():
        return trace(wrapped(traceable(model), names), example, in_place=False)


def rows(batch: int, length: int, padded: str = "") -> Tensors:
    """Ids and mask, with padding on the side `padded`, from about half a row down to none."""
    generator = torch.Generator().manual_seed(100 * batch + length)
    ids = torch.randint(5, 300, (batch, length), generator=generator)
    mask = torch.ones_like(ids)
    for row in range(batch if padded else 0):
        gap = length * (batch - row) // (2 * batch)
        mask[row, slice(gap) if padded == "left" else slice(length - gap, length)] = 0
    return ids * mask, mask


def pairs(batch: int, length: int, padded: str = "") -> Tensors:
    """Questions, of another length in each row, and contexts, framed by separators."""
    ids, mask = rows(batch, length, padded)
    for tokens, sees, question in zip(ids, mask, range(2, 2 + batch), strict=True):
        inside = sees.nonzero()[:, 0]
        tokens[inside[0]] = CLS
        tokens[inside[[question, question + 1, -1]]] = SEP
    return ids, mask


def grid(
    make_rows: Callable[..., Tensors], lengths: tuple[int, ...]
) -> Iterator[tuple[Shape, Tensors]]:
    for batch in (1, 3):
        for length in (*lengths, 16, 33, 64, 100):
            for padded in ("", "left", "right"):
                yield Shape(batch, length, bool(padded)), make_rows(batch, length, padded)


@each_window
@each_length
@pytest.mark.parametrize("name", CLASSES)
def test_answers_are_the_models_at_every_shape(
    name: str, length: int, window: int | list[int], tmp_path: Path
) -> None:
    model = make(name, window)
    loaded = saved(traced(model, rows(2, length, "right")), tmp_path)
    report = verify(wrapped(model), loaded, grid(rows, (1, 8)))
    assert report.holds, report.in_words()


@each_window
@each_length
def test_each_question_has_its_own_global_tokens(
    length: int, window: int | list[int], tmp_path: Path
) -> None:
    model = make(QUESTIONS, window)
    loaded = saved(traced(model, pairs(2, length, "right")), tmp_path)
    report = verify(wrapped(model), loaded, grid(pairs, (12,)))
    assert report.holds, report.in_words()


def test_a_question_without_its_separators_is_refused() -> None:
    module = traced(make(QUESTIONS), pairs(2, 16))
    with pytest.raises(RuntimeError, match="is invalid for input of size"):
        module(*rows(2, 16))


@pytest.mark.parametrize("share", [0.0, 0.3], ids=["none", "some"])
@pytest.mark.parametrize("name", [SEQUENCE, TOKENS])
def test_any_tokens_may_be_global_whichever_were_in_the_example(name: str, share: float) -> None:
    generator = torch.Generator().manual_seed(1)

    def with_global(batch: int, length: int, padded: str, share: float) -> Tensors:
        chosen = torch.rand(batch, length, generator=generator) < share
        return (*rows(batch, length, padded), chosen.long())

    model = make(name)
    module = traced(model, with_global(2, 20, "right", share), GLOBAL)
    cases = [
        (Shape(batch, length, bool(padded)), with_global(batch, length, padded, other))
        for other in (0.0, 0.1, 0.5, 1.0)
        for batch, length, padded in ((1, 20, ""), (3, 33, "left"), (4, 16, "right"))
    ]
    report = verify(wrapped(model, GLOBAL), module, cases)
    assert report.holds, report.in_words()


@pytest.mark.parametrize("name", [*CLASSES, QUESTIONS])
def test_graph_does_not_grow_with_the_traced_length(name: str) -> None:
    make_rows = pairs if name == QUESTIONS else rows
    graphs = [str(traced(make(name), make_rows(2, n)).inlined_graph) for n in (16, 96)]
    assert len({graph.count("\n") for graph in graphs}) == 1


def test_a_row_of_padding_alone_spoils_no_other() -> None:
    model = make(TOKENS)
    ids, mask = rows(3, 20)
    mask[1] = 0
    report = verify(wrapped(model), traced(model, rows(2, 20)), [(Shape(3, 20), (ids, mask))])
    assert report.holds, report.in_words()
