"""Configs of every released version of the TorchServe example, unchanged but for the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.export.config.helpers import EXPLAINED, OLDEST, YAML, load
from tests.export.helpers import refused
from torchscript_bundle.export.config import load_config
from torchscript_bundle.export.config.torchserve_keys import (
    RENAMED,
    UNUSED,
    UNUSED_BY_ARCHIVE,
    translate,
)

#: First release -> what its setup_config.json held.
SHIPPED: dict[str, dict[str, Any]] = {
    "0.1.1": OLDEST,
    "0.3.0": {**OLDEST, "save_mode": "pretrained"},
    "0.4.0": EXPLAINED,
    "0.5.0": {**EXPLAINED, "FasterTransformer": False},
    "0.6.0": {**EXPLAINED, "FasterTransformer": False, "model_parallel": False},
    "0.7.0": {
        **EXPLAINED,
        "FasterTransformer": False,
        "BetterTransformer": False,
        "model_parallel": False,
    },
}
#: What its README says to change for the other modes.
MODES: dict[str, dict[str, Any]] = {
    "token_classification": {"num_labels": "9"},
    "question_answering": {"num_labels": "0", "max_length": "128"},
    "text_generation": {"num_labels": "0", "embedding_name": "gpt2", "model_parallel": True},
}


@pytest.mark.parametrize("release", SHIPPED)
@pytest.mark.parametrize("mode", ["sequence_classification", *MODES])
def test_every_releases_config_is_taken(tmp_path: Path, release: str, mode: str) -> None:
    changed = {**SHIPPED[release], "mode": mode, **MODES.get(mode, {})}
    config = load(tmp_path, changed)
    assert (config.mode, config.num_labels) == (mode, int(changed["num_labels"]))
    assert config.max_length == int(changed["max_length"])
    assert config.do_lower_case is True
    writes = mode == "text_generation"
    assert config.save_mode == ("torchscript" if writes else changed["save_mode"])
    explained = changed.get("captum_explanation", False)
    assert config.captum_explanation == (explained and not writes)


def test_model_config_yaml_is_taken_and_each_idle_key_is_told(tmp_path: Path) -> None:
    config = load(tmp_path, YAML, "model-config.yaml")
    assert (config.mode, config.save_mode) == ("sequence_classification", "pretrained")
    assert (config.num_labels, config.max_length) == (2, 150)
    assert config.captum_explanation
    told = [note.partition(" ")[0] for note in config.notes]
    assert told == ["handler.embedding_name", "minWorkers", "maxWorkers", "pt2"]
    assert config.served_name == "name"


def test_torchserves_own_keys_become_ours(tmp_path: Path) -> None:
    settings = {"batchSize": 4, "maxBatchDelay": 50, "responseTimeout": 300, "startupTimeout": 600}
    config = load(tmp_path, {**OLDEST, **settings})
    assert [getattr(config, RENAMED[key]) for key in settings] == list(settings.values())
    assert config.notes == ()


@pytest.mark.parametrize("key", [*UNUSED, *UNUSED_BY_ARCHIVE])
def test_a_key_that_does_nothing_is_told_where_it_is_set(tmp_path: Path, key: str) -> None:
    for value in (False, None):
        assert load(tmp_path, {**OLDEST, key: value}).notes == ()
    [note] = load(tmp_path, {**OLDEST, key: "gpu"}).notes
    assert note.startswith(f"{key} is accepted and does nothing: ")
    assert note.isprintable()


def test_what_a_model_that_writes_cannot_have_is_told(tmp_path: Path) -> None:
    given = {**EXPLAINED, **MODES["text_generation"], "mode": "text_generation"}
    saved, explained = load(tmp_path, given).notes[-2:]
    assert saved.startswith('save_mode "pretrained" is taken as "torchscript": text_generation')
    assert explained.startswith("captum_explanation is taken as false")


@pytest.mark.parametrize("value", ["true", 1, "yes"])
def test_true_may_be_written_as_elsewhere(tmp_path: Path, value: object) -> None:
    given = {**OLDEST, "mode": "text_generation", "captum_explanation": value}
    assert load(tmp_path, given).captum_explanation is False


def test_a_key_in_both_places_must_say_the_same(tmp_path: Path) -> None:
    handler = {**OLDEST, "batch_size": 4}
    assert load(tmp_path, {"handler": handler, "batchSize": 4}).batch_size == 4
    with refused("batchSize and handler.batch_size say the same differently; remove one"):
        load(tmp_path, {"handler": handler, "batchSize": 8})
    with refused("handler: must hold an object"):
        load(tmp_path, {**OLDEST, "handler": "image_classifier"})


def test_complaints_name_the_key_as_the_file_has_it(tmp_path: Path) -> None:
    with refused("handler.max_length: Input should be greater", "batchSize: Input should be") as no:
        load(tmp_path, {"handler": {**OLDEST, "max_length": 2}, "batchSize": 0}, "m.yaml")
    assert len(no.lines) == 2


@pytest.mark.parametrize(
    ("text", "words"), [("a: [", "not YAML"), ("- a", "must hold a mapping"), ("", "a mapping")]
)
def test_yaml_that_is_none(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "model-config.yaml"
    path.write_text(text)
    with refused(str(path), words):
        load_config(path)


def test_text_generation_finds_the_examples_samples(tmp_path: Path) -> None:
    older = tmp_path / "Text_gen_artifacts"
    older.mkdir()
    (older / "sample_text.txt").write_text("Once upon a time")
    config = load(tmp_path, {**OLDEST, "mode": "text_generation"})
    assert (config.artifacts, config.samples) == (older, ["Once upon a time"])
    (tmp_path / "Text_generation_artifacts").mkdir()
    assert config.artifacts == tmp_path / "Text_generation_artifacts"


def test_keys_of_a_mapping_need_not_be_texts() -> None:
    assert translate({5: 1}).values == {"5": 1}
