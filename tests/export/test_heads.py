"""A checkpoint that was trained for another mode leads to that mode."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import tiny
from tests.export.helpers import config_for, refused
from torchscript_bundle.export.heads import modes_of, other_mode, saved_class
from torchscript_bundle.export.kinds import load_source
from torchscript_bundle.export.modes import MODES

WRITERS: dict[str, tuple[Callable[..., object], Callable[[], object]]] = {
    "t5": (tiny.t5_lm, tiny.unigram_tokenizer),
    "bart": (tiny.bart_lm, tiny.byte_level_tokenizer),
    "gpt2": (tiny.gpt2_lm, tiny.writing_tokenizer),
    "bert_mlm": (tiny.bert_mlm, tiny.wordpiece_tokenizer),
}


@pytest.mark.parametrize(
    ("name", "mode", "words"),
    [
        ("t5", "text_generation", 'T5ForConditionalGeneration: set mode to "text2text_generation"'),
        ("bart", "text_generation", '"text2text_generation"'),
        ("gpt2", "text2text_generation", 'GPT2LMHeadModel: set mode to "text_generation"'),
        ("bert_mlm", "text_generation", 'BertForMaskedLM: set mode to "fill_mask"'),
        ("bert_mlm", "token_classification", '"sparse_embedding", or choose a model fine-'),
    ],
)
def test_a_model_of_another_mode(tmp_path: Path, name: str, mode: str, words: str) -> None:
    make, tokenizer = WRITERS[name]
    model = tiny.save_checkpoint(tmp_path / name, make, tokenizer())
    with refused(words) as refusal:
        load_source(config_for(tmp_path, model, mode=mode))
    assert refusal.sentence


def test_heads_with_weights_of_the_same_names(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """A classifier of texts loads as one of tokens, and its answers would mean nothing."""
    with refused("was not trained for token_classification", '"reranking"'):
        load_source(config_for(tmp_path, checkpoint("bert"), mode="token_classification"))


@pytest.mark.parametrize("mode", sorted(MODES.keys() - {"feature_extraction"}))
def test_every_modes_own_classes_are_known(mode: str) -> None:
    known = {
        "sequence_classification": "BertForSequenceClassification",
        "zero_shot_classification": "BartForSequenceClassification",
        "reranking": "XLMRobertaForSequenceClassification",
        "token_classification": "BertForTokenClassification",
        "question_answering": "DistilBertForQuestionAnswering",
        "fill_mask": "RobertaForMaskedLM",
        "sparse_embedding": "DistilBertForMaskedLM",
        "text_generation": "LlamaForCausalLM",
        "text2text_generation": "T5ForConditionalGeneration",
    }
    assert mode in modes_of(known[mode])


@pytest.mark.parametrize("names", [None, [], "BertForMaskedLM", [5], ["OwnModel"]])
def test_nothing_is_said_where_nothing_is_known(tmp_path: Path, names: object) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": names}))
    assert other_mode(tmp_path, "text_generation") is None
    assert saved_class(tmp_path) in (None, "OwnModel")
