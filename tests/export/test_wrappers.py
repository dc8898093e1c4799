"""Models of any head: tensors in by position, a tuple out."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    BertForTokenClassification,
    FNetConfig,
    FNetForSequenceClassification,
)

from tests import tiny
from tests.jit.helpers import saved, trace
from torchscript_bundle.export.wrappers import wrap_model

TWO = ("input_ids", "attention_mask")
BERT = {"vocab_size": tiny.VOCABULARY, "intermediate_size": 64, **tiny.SIZES}


def make_inputs(names: tuple[str, ...], batch: int, length: int) -> tuple[torch.Tensor, ...]:
    """int64 `[batch, length]` each; each row but the first begins with padding."""
    torch.manual_seed(length)
    mask = (torch.arange(length)[None] >= torch.arange(batch)[:, None]).long()
    values = {
        "input_ids": torch.randint(tiny.VOCABULARY, (batch, length)),
        "attention_mask": mask,
        "token_type_ids": torch.randint(2, (batch, length)),
        "position_ids": (mask.cumsum(1) - 1).clamp(min=0),
    }
    return tuple(values[name] for name in names)


HEADS: dict[str, Any] = {
    "classifier": (tiny.bert, (*TWO, "token_type_ids"), ("logits",)),
    "positions": (tiny.bert, (*TWO, "position_ids"), ("logits",)),
    "no types": (tiny.distilbert, TWO, ("logits",)),
    "tokens": (lambda: BertForTokenClassification(BertConfig(**BERT)), TWO, ("logits",)),
    "spans": (
        lambda: BertForQuestionAnswering(BertConfig(**BERT)),
        (*TWO, "token_type_ids"),
        ("start_logits", "end_logits"),
    ),
    "spans, end first": (
        lambda: BertForQuestionAnswering(BertConfig(**BERT)),
        TWO,
        ("end_logits", "start_logits"),
    ),
    "masked LM": (tiny.bert_mlm, TWO, ("logits",)),
    "causal LM": (tiny.gpt2_lm, (*TWO, "position_ids"), ("logits",)),
}


@pytest.mark.parametrize("head", HEADS)
def test_every_head_traces_and_answers_as_the_model(tmp_path: Path, head: str) -> None:
    make, names, outputs = HEADS[head]
    torch.manual_seed(0)
    model = make().eval()
    wrapped = wrap_model(model, names, outputs).eval()
    traced = saved(trace(wrapped, *make_inputs(names, 2, 6)), tmp_path)
    assert [each.name for each in traced.forward.schema.arguments[1:]] == list(names)
    for batch, length in ((2, 6), (1, 1), (5, 11)):
        inputs = make_inputs(names, batch, length)
        with torch.no_grad():
            answer = model(**dict(zip(names, inputs, strict=True)))
            expected = [answer[name] for name in outputs]
            for module in (wrapped, copy.deepcopy(wrapped), traced):
                torch.testing.assert_close(list(module(*inputs)), expected, rtol=1e-5, atol=1e-5)


def test_eager_wrapper_says_what_it_takes_and_returns_a_tuple() -> None:
    wrapped = wrap_model(tiny.bert(), TWO)
    assert list(inspect.signature(wrapped.forward).parameters) == list(TWO)
    answer = wrapped(*make_inputs(TWO, 2, 5))
    assert isinstance(answer, tuple)
    assert [tuple(each.shape) for each in answer] == [(2, 2)]


def test_input_that_the_model_does_not_take_is_refused_with_those_it_does() -> None:
    with pytest.raises(
        ValueError, match=r"DistilBert\w+ does not take token_type_ids; .*input_ids,"
    ):
        wrap_model(tiny.distilbert(), (*TWO, "token_type_ids"))


def test_output_that_the_head_does_not_have_is_named() -> None:
    wrapped = wrap_model(tiny.bert(), TWO, ("start_logits",))
    with pytest.raises(ValueError, match="SequenceClassifierOutput has no start_logits"):
        wrapped(*make_inputs(TWO, 1, 4))


def test_further_arguments_reach_the_model_and_win() -> None:
    inputs = make_inputs(TWO, 2, 5)
    last = wrap_model(tiny.gpt2_lm().eval(), TWO, logits_to_keep=1)
    assert last(*inputs)[0].shape == (2, 1, tiny.VOCABULARY)
    cached = wrap_model(tiny.gpt2_lm().eval(), TWO, ("logits", "past_key_values"), use_cache=True)
    assert len(cached(*inputs)) == 2


def test_model_keeps_no_cache_unless_asked() -> None:
    wrapped = wrap_model(tiny.gpt2_lm().eval(), TWO, ("past_key_values",))
    with pytest.raises(ValueError, match="has no past_key_values"):
        wrapped(*make_inputs(TWO, 2, 5))


def test_model_without_a_mask_is_given_one_all_the_same() -> None:
    """FNet: every bundle has a mask, and whether padding matters is measured, not assumed."""
    model = FNetForSequenceClassification(FNetConfig(**BERT)).eval()
    inputs = make_inputs(TWO, 2, 5)
    (logits,) = wrap_model(model, TWO)(*inputs)
    torch.testing.assert_close(logits, model(inputs[0]).logits)
