"""Reranking: the activation that a folder names, and what is no reranker."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.export.helpers import config_for, copy, edit_json, refused
from torchscript_bundle.export.exporter import export
from torchscript_bundle.export.kinds import load_source
from torchscript_bundle.export.modes.reranking import Reranking

MODE = "reranking"
IDENTITY = "torch.nn.modules.linear.Identity"
SIGMOID = "torch.nn.modules.activation.Sigmoid"


@pytest.fixture
def model(checkpoint: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of the BERT reranker to spoil."""
    return copy(checkpoint("bert_reranker"), tmp_path / "model")


def options(folder: Path, model: Path, **settings: Any) -> dict[str, Any]:
    """What the mode makes of a folder."""
    config = config_for(folder, model, mode=MODE, **settings)
    return asdict(Reranking().options(load_source(config), config))


def save_modules(model: Path, *kinds: str, **settings: Any) -> None:
    """The files that sentence-transformers writes beside the model."""
    modules = [
        {"path": f"{at}_{kind}" if at else "", "type": f"sentence_transformers.base.{kind}"}
        for at, kind in enumerate(kinds)
    ]
    (model / "modules.json").write_text(json.dumps(modules))
    (model / "config_sentence_transformers.json").write_text(json.dumps(settings))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, "sigmoid"),
        ({"sentence_transformers": {"activation_fn": IDENTITY}}, "identity"),
        ({"sentence_transformers": {"activation_fn": SIGMOID}}, "sigmoid"),
        ({"sentence_transformers": {"version": "4.1.0"}}, "sigmoid"),
        ({"sbert_ce_default_activation_function": IDENTITY}, "identity"),
        ({"sbert_ce_default_activation_function": None}, "sigmoid"),
    ],
)
def test_activation_of_the_config(
    model: Path, tmp_path: Path, said: dict[str, Any], expected: str
) -> None:
    edit_json(model / "config.json", **said)
    assert options(tmp_path, model) == {"activation": expected}


def test_activation_and_agreement_with_cross_encoder(model: Path, tmp_path: Path) -> None:
    """Of a folder that sentence-transformers itself saved, whose own file counts first."""
    library = pytest.importorskip("sentence_transformers")
    library.CrossEncoder(str(model), device="cpu").save_pretrained(str(tmp_path / "saved"))
    assert options(tmp_path, tmp_path / "saved") == {"activation": "sigmoid"}
    edit_json(tmp_path / "saved" / "config_sentence_transformers.json", activation_fn=IDENTITY)
    assert options(tmp_path, tmp_path / "saved") == {"activation": "identity"}
    loaded = library.CrossEncoder(str(tmp_path / "saved"), device="cpu")
    assert type(loaded.activation_fn).__name__ == "Identity"


@pytest.mark.parametrize("path", ["torch.nn.Tanh", "own.Sigmoid", "Sigmoid", 5])
def test_other_activations_are_refused(model: Path, tmp_path: Path, path: object) -> None:
    edit_json(model / "config.json", sentence_transformers={"activation_fn": path})
    with refused("makes its scores with") as refusal:
        options(tmp_path, model)
    assert refusal.sentence


def test_folder_that_is_more_than_a_transformer_is_refused(model: Path, tmp_path: Path) -> None:
    save_modules(model, "Transformer", "LogitScore")
    with refused("LogitScore"):
        options(tmp_path, model)
    save_modules(model, "Transformer", prompts={"q": "query: "}, default_prompt_name="q")
    with refused("default_prompt_name"):
        options(tmp_path, model)
    save_modules(model, "Transformer", prompts={"q": "query: "})
    assert options(tmp_path, model)


@pytest.mark.parametrize(("name", "settings"), [("bert", {}), ("bert_reranker", {"num_labels": 2})])
def test_more_than_one_label_is_refused(
    checkpoint: Callable[[str], Path], tmp_path: Path, name: str, settings: dict[str, Any]
) -> None:
    with refused("a reranker has one", "sequence_classification") as refusal:
        export(config_for(tmp_path, checkpoint(name), mode=MODE, **settings), tmp_path / "a")
    assert refusal.sentence


def test_bundle_says_how(artifact: Callable[[str], Path]) -> None:
    bundle = json.loads((artifact("roberta_reranker") / "bundle.json").read_text())
    assert (bundle["mode_options"], bundle["labels"]) == ({"activation": "identity"}, [])
