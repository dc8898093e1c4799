"""Question answering at build time: what the worker is told, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import pre_tokenizers

from tests import tiny
from tests.export.helpers import config_for, refused
from tests.serving.helpers import ask
from torchscript_bundle.export.exporter import export
from torchscript_bundle.server.archives import content_type
from torchscript_bundle.serving.artifact import Bundle, Output
from torchscript_bundle.serving.service import Service

MODE = "question_answering"
SAMPLES = Path(__file__).parents[3] / "QA_artifacts"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("bert_qa", {"null_token": 2, "has_words": True}),
        ("roberta_qa", {"null_token": 0, "has_words": True}),
        ("bare_qa", {"null_token": None, "has_words": True}),
    ],
)
def test_what_the_worker_is_told(
    artifact: Callable[[str], Path], name: str, options: dict[str, Any]
) -> None:
    bundle = Bundle.load(artifact(name))
    assert (bundle.mode, bundle.labels, bundle.mode_options) == (MODE, (), options)
    assert bundle.outputs == (Output("start_logits", True), Output("end_logits", True))
    assert bundle.dynamic_batch and bundle.dynamic_length


def test_padding_on_the_left_is_kept(artifact: Callable[[str], Path]) -> None:
    bundle = Bundle.load(artifact("left_qa"))
    assert bundle.padding.side == "left"
    assert bundle.mode_options["null_token"] == bundle.special_ids["cls"]


def test_a_tokenizer_that_takes_a_text_for_one_word_is_known(tmp_path: Path) -> None:
    tokenizer = tiny.byte_level_tokenizer()
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.backend_tokenizer.pre_tokenizer = split
    model = tiny.save_checkpoint(tmp_path / "model", tiny.roberta_qa, tokenizer)
    config = config_for(tmp_path, model, mode=MODE, max_length=32)
    assert not export(config, tmp_path / "artifact").mode_options["has_words"]
    service = Service(tmp_path / "artifact", torch.device("cpu"))
    item = {"question": "who?", "context": "the film was long", "max_answer_len": 1, "top_k": 3}
    status, answers = ask(service, item)
    assert status == 200
    assert all(answer["end"] - answer["start"] < 5 for answer in answers)


def test_a_length_without_room_for_a_context_is_refused(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    config = config_for(tmp_path, checkpoint("bert_qa"), mode=MODE, max_length=10)
    with refused("max_length is 10", "at least 11 tokens"):
        export(config, tmp_path / "artifact")


def test_a_model_without_this_head_is_refused(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    config = config_for(tmp_path, checkpoint("bert"), mode=MODE)
    with refused("no weights for qa_outputs", MODE):
        export(config, tmp_path / "artifact")


def test_the_samples_are_objects_with_a_question_and_a_context(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    settings = {"mode": MODE, "artifacts_dir": str(SAMPLES)}
    for sample in config_for(tmp_path, checkpoint("bert_qa"), **settings).samples:
        assert content_type(sample) == "application/json"
        assert sorted(json.loads(sample)) == ["context", "question"]
