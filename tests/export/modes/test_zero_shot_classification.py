"""Zero-shot classification at build time: which logit means what, and what is refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import tiny
from tests.export.helpers import config_for, refused
from torchscript_bundle.export.exporter import export
from torchscript_bundle.server.archives import content_type
from torchscript_bundle.serving.artifact import Bundle

MODE = "zero_shot_classification"
SAMPLES = Path(__file__).parents[3] / "Zero_shot_artifacts"


@pytest.mark.parametrize(
    ("name", "entailment", "contradiction"),
    [("bert_nli", 2, 0), ("roberta_nli", 0, 1), ("left_nli", 2, 0)],
)
def test_the_worker_is_told_which_logit_means_what(
    artifact: Callable[[str], Path], name: str, entailment: int, contradiction: int
) -> None:
    bundle = Bundle.load(artifact(name))
    assert (bundle.mode, bundle.labels) == (MODE, ())
    assert bundle.mode_options == {"entailment": entailment, "contradiction": contradiction}


@pytest.mark.parametrize("labels", [("SAD", "SO-SO", "GLAD"), ("entailment",)])
def test_a_model_without_entailment_is_refused_with_its_labels(
    tmp_path: Path, labels: tuple[str, ...]
) -> None:
    model = tiny.save_checkpoint(tmp_path / "model", labels=labels)
    with refused("the labels " + ", ".join(labels), "entailment", "natural language inference"):
        export(config_for(tmp_path, model, mode=MODE), tmp_path / "artifact")


@pytest.mark.parametrize("name", ["ENTAILMENT", "entail"])
def test_entailment_may_be_spelled_as_transformers_knows_it(tmp_path: Path, name: str) -> None:
    model = tiny.save_checkpoint(tmp_path / "model", labels=(name, "other"))
    bundle = export(config_for(tmp_path, model, mode=MODE), tmp_path / "artifact")
    assert bundle.mode_options == {"entailment": 0, "contradiction": 1}


def test_an_order_that_transformers_misreads_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels = ("neutral", "entailment", "contradiction")
    model = tiny.save_checkpoint(tmp_path / "model", labels=labels)
    with caplog.at_level(logging.WARNING):
        export(config_for(tmp_path, model, mode=MODE), tmp_path / "artifact")
    assert "its label neutral where transformers looks for contradiction" in caplog.text


def test_num_labels_must_be_the_models(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    config = config_for(tmp_path, checkpoint("bert_nli"), mode=MODE, num_labels=2)
    with refused("num_labels 2", "3 labels"):
        export(config, tmp_path / "artifact")


def test_the_samples_bring_their_labels(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    settings = {"mode": MODE, "artifacts_dir": str(SAMPLES)}
    for sample in config_for(tmp_path, checkpoint("bert_nli"), **settings).samples:
        assert content_type(sample) == "application/json"
        assert json.loads(sample)["parameters"]["candidate_labels"]
