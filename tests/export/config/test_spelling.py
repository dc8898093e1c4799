"""Modes and keys by other names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.export.config.helpers import read
from tests.export.helpers import refused
from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.config.spelling import OTHER_KEYS
from torchscript_bundle.export.tasks import TASKS


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("embeddings", "feature_extraction"),
        ("ner", "token_classification"),
        ("sentiment", "sequence_classification"),
        ("sentiment-analysis", "sequence_classification"),
        ("Text-Classification", "sequence_classification"),
        ("summarization", "text2text_generation"),
        ("translation", "text2text_generation"),
        ("chat", "text_generation"),
        ("zero-shot", "zero_shot_classification"),
        ("cross-encoder", "reranking"),
        ("masked_lm", "fill_mask"),
        ("SPLADE", "sparse_embedding"),
        ("qa", "question_answering"),
        ("sequenceclassification", "sequence_classification"),
        ("text_genaration", "text_generation"),
    ],
)
def test_a_mode_by_another_name_leads_to_it(tmp_path: Path, said: str, meant: str) -> None:
    with refused(f'did you mean "{meant}"?'):
        read(tmp_path, mode=said)


@pytest.mark.parametrize("said", ["image_classification", "x", "", "speech"])
def test_no_mode_is_guessed(tmp_path: Path, said: str) -> None:
    with refused("mode: allowed: sequence_classification") as refusal:
        read(tmp_path, mode=said)
    assert "did you mean" not in refusal.sentence


@pytest.mark.parametrize("spelled", ["token-classification", "token classification"])
def test_a_mode_may_be_spelled_as_on_the_hub(tmp_path: Path, spelled: str) -> None:
    assert read(tmp_path, mode=spelled).mode == "token_classification"


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("maxLength", "max_length"),
        ("max_lenght", "max_length"),
        ("model", "model_name"),
        ("task", "mode"),
        ("torch_dtype", "precision"),
        ("bettertransformer", "BetterTransformer"),
        ("min_workers", "minWorkers"),
    ],
)
def test_a_near_key_is_offered(tmp_path: Path, key: str, meant: str) -> None:
    with refused(f"{key}: unknown key; did you mean '{meant}'?"):
        read(tmp_path, **{key: 1})


@pytest.mark.parametrize("key", ["temperature", "use_cache", "path", "seed", "max_workers_lost"])
def test_a_far_key_is_not(tmp_path: Path, key: str) -> None:
    with refused(f"{key}: unknown key; known keys: ") as refusal:
        read(tmp_path, **{key: 1})
    assert "did you mean" not in refusal.sentence


def test_other_names_lead_to_names_that_there_are() -> None:
    names = [name for task in TASKS.values() for name in task.other_names]
    assert all(task.other_names for task in TASKS.values())
    assert len(names) == len(set(names)) and not set(names) & TASKS.keys()
    assert set(OTHER_KEYS.values()) <= SetupConfig.model_fields.keys()
    assert not OTHER_KEYS.keys() & SetupConfig.model_fields.keys()
