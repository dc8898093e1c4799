"""From a config to a whole artifact, or to nothing at all."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers

from tests import tiny
from tests.export.helpers import MODE, config_for, copy, edit_json, listing, refused
from torchscript_bundle.export.exporter import export
from torchscript_bundle.jit import tracing

FILES = ["bundle.json", "setup_config.json", "tokenizer.json", "traced_model.pt"]


@torch.jit.ignore
def square(value):  # type: ignore[no-untyped-def]
    """Python inside a scripted function: it runs, and no file can hold it."""
    return value * value


def call_square(value):  # type: ignore[no-untyped-def]
    return square(value)


class StubbornConfig(transformers.BertConfig):
    model_type = "stubborn"


class Stubborn(transformers.BertForSequenceClassification):
    """Traces and answers exactly, and cannot be saved."""

    config_class = StubbornConfig

    def forward(self, *arguments: Any, **named: Any) -> Any:
        output = super().forward(*arguments, **named)
        output.logits = torch.jit.script(call_square)(output.logits)
        return output


transformers.AutoConfig.register("stubborn", StubbornConfig)
transformers.AutoModelForSequenceClassification.register(StubbornConfig, Stubborn)


@pytest.fixture
def model(checkpoint: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of the BERT checkpoint, to be changed."""
    return copy(checkpoint("bert"), tmp_path / "model")


def read(artifact: Path) -> dict[str, Any]:
    """bundle.json."""
    return dict(json.loads((artifact / "bundle.json").read_text(encoding="utf-8")))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file's bytes."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_an_artifact_holds(model: Path, tmp_path: Path) -> None:
    config = config_for(tmp_path, model, max_length="24", num_labels="3")
    bundle = export(config, tmp_path / "made" / "Transformer_model")
    artifact = tmp_path / "made" / "Transformer_model"
    assert listing(tmp_path / "made") == [artifact.name, *(f"{artifact.name}/{f}" for f in FILES)]
    facts = read(artifact)
    expected = {
        "format_version": 4,
        "mode": MODE,
        "inputs": ["input_ids", "attention_mask", "token_type_ids"],
        "outputs": [{"name": "logits", "per_token": False, "special": None}],
        "labels": ["SAD", "SO-SO", "GLAD"],
        "mode_options": {"problem_type": "single_label_classification"},
        "save_mode": "torchscript",
        "save_options": {},
        "min_length": 2,
        "max_length": 24,
        "traced_lengths": [24],
        "dynamic_batch": True,
        "dynamic_length": True,
        "reads_padding": False,
        "explanations": False,
        "pairs": True,
        "answer_form": "hugging_face",
        "precision": "float32",
        "padding": {"side": "right", "token_id": 0, "type_id": 0},
        "truncation_side": "right",
        "special_ids": {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4},
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
        "source": {"model_name": str(model), "revision": None},
    }
    assert {key: facts[key] for key in expected} == expected
    assert facts.keys() == {*expected, "sha256", "sizes", "verification", "quality"}
    assert list(bundle.labels) == facts["labels"]
    assert (artifact / "setup_config.json").read_text() == config.dump()
    for name in FILES[1:]:
        content = (artifact / name).read_bytes()
        assert facts["sizes"][name] == len(content)
        assert facts["sha256"][name] == hashlib.sha256(content).hexdigest()


def test_the_report_has_a_case_for_each_claimed_shape(artifact: Callable[[str], Path]) -> None:
    report = read(artifact("bert"))["verification"]
    shapes = {tuple(case["shape"].values()) for case in report["cases"]}
    lengths = {8, 16, 32, 33, 64}
    ordinary = {
        (b, length, p, False, False)
        for b in (1, 2, 5, 8)
        for length in lengths
        for p in (True, False)
    }
    shortest = {(b, 2, False, False, False) for b in (1, 2, 5, 8)}
    pairs = {
        (b, length, p, False, True) for b in (1, 5) for length in lengths for p in (True, False)
    }
    shortest_pairs = {(b, 3, False, False, True) for b in (1, 5)}
    spelled = {(b, length, True, True, p) for b in (1, 2) for length in lengths for p in (0, 1)}
    assert shapes == ordinary | shortest | pairs | shortest_pairs | spelled
    assert {case["verdict"] for case in report["cases"]} <= {"exact", "close"}
    assert report["worst_relative_difference"] == max(
        output["max_rel"] for case in report["cases"] for output in case["outputs"]
    )
    assert report["holds"] == "any batch, any length from 2 to 64"
    assert report["tolerance"] == 1e-5
    assert report["padding_effect"] < 1e-4
    assert report["tokenizer_texts_compared"] == 19


@pytest.mark.parametrize("name", ["bert", "roberta", "fixed_length", "fixed_shape"])
def test_the_file_alone_answers_as_the_model_does(
    checkpoint: Callable[[str], Path], artifact: Callable[[str], Path], name: str
) -> None:
    """Beside transformers itself, on real texts of one length or of several."""
    module = tracing.load(artifact(name) / "traced_model.pt", torch.device("cpu"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint(name))
    auto = transformers.AutoModelForSequenceClassification
    eager = auto.from_pretrained(checkpoint(name)).eval()
    facts = read(artifact(name))
    batches = [tiny.CORPUS] if facts["dynamic_batch"] else [[text] for text in tiny.CORPUS]
    padding: Any = True if facts["dynamic_length"] else "max_length"
    for texts in batches:
        encoded = tokenizer(
            texts, padding=padding, truncation=True, max_length=64, return_tensors="pt"
        )
        inputs = [encoded[name] for name in facts["inputs"]]
        with torch.no_grad():
            (logits,) = module(*inputs)
            expected = eager(**encoded).logits
        assert logits.dtype == torch.float32
        torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


def test_a_failing_export_leaves_the_older_artifact_as_it_was(model: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    export(config_for(tmp_path, model), place / "Transformer_model")
    before = contents(place / "Transformer_model")

    with refused("max_length is 513", "at most 512"):
        export(config_for(tmp_path, model, max_length=513), place / "Transformer_model")
    # This one fails at the last moment, when the new artifact is half written.
    edit_json(model / "config.json", model_type="stubborn", architectures=["Stubborn"])
    with refused("cannot be saved and loaded again", "square", "another model"):
        export(config_for(tmp_path, model), place / "Transformer_model")
    assert contents(place / "Transformer_model") == before
    assert listing(place) == ["Transformer_model", *(f"Transformer_model/{f}" for f in FILES)]


def test_a_failing_first_export_leaves_nothing(model: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    edit_json(model / "config.json", model_type="stubborn", architectures=["Stubborn"])
    with refused("cannot be saved"):
        export(config_for(tmp_path, model), place / "Transformer_model")
    assert listing(place) == []


def test_a_new_artifact_replaces_the_older_whole(model: Path, tmp_path: Path) -> None:
    artifact = tmp_path / "place" / "Transformer_model"
    export(config_for(tmp_path, model), artifact)
    (artifact / "left_over.txt").write_text("of an older version")
    export(config_for(tmp_path, model, max_length=20), artifact)
    assert listing(artifact) == FILES
    assert read(artifact)["max_length"] == 20
    assert listing(artifact.parent)[0] == "Transformer_model"
    assert len(listing(artifact.parent)) == 1 + len(FILES)


def test_an_empty_folder_is_taken(model: Path, tmp_path: Path) -> None:
    artifact = tmp_path / "Transformer_model"
    artifact.mkdir()
    export(config_for(tmp_path, model), artifact)
    assert listing(artifact) == FILES


def test_a_folder_with_other_files_is_not_touched(model: Path, tmp_path: Path) -> None:
    thesis = tmp_path / "documents" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    config = config_for(tmp_path, model)
    with refused(str(thesis.parent), "other files", "--output"):
        export(config, thesis.parent)
    with refused(str(thesis), "is a file", "--output"):
        export(config, thesis)
    with refused("could not be written", "File exists", "--output"):
        export(config, thesis / "Transformer_model")
    assert thesis.read_text() == "years of work"
    assert listing(thesis.parent) == ["thesis.txt"]


def test_labels_beside_the_config(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "Seq_classification_artifacts"
    folder.mkdir()
    (folder / "index_to_name.json").write_text('{"0": "traurig", "1": "so lala", "2": "froh"}')
    bundle = export(config_for(tmp_path, model), tmp_path / "Transformer_model")
    assert bundle.labels == ("traurig", "so lala", "froh")
    (folder / "index_to_name.json").write_text('{"0": "traurig", "1": "froh"}')
    with refused("has 2 labels", "num_labels is 3"):
        export(config_for(tmp_path, model), tmp_path / "Transformer_model")


def test_no_number_of_labels_is_the_models_own(model: Path, tmp_path: Path) -> None:
    """The TorchServe example writes "0" for tasks without labels."""
    bundle = export(config_for(tmp_path, model, num_labels="0"), tmp_path / "artifact")
    assert bundle.labels == ("SAD", "SO-SO", "GLAD")


def test_says_what_became_of_old_keys_and_what_was_proven(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = {"FasterTransformer": True, "BetterTransformer": True, "model_parallel": True}
    with caplog.at_level(logging.INFO, "torchscript_bundle"):
        export(config_for(tmp_path, model, **old), tmp_path / "Transformer_model")
    for key in old:
        assert f"{key} is accepted and does nothing: " in caplog.text
    assert "holds at any batch, any length from 2 to 16" in caplog.text


def test_says_nothing_of_old_keys_that_are_off(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "torchscript_bundle"):
        export(config_for(tmp_path, model, model_parallel=False), tmp_path / "Transformer_model")
    assert caplog.text == ""
