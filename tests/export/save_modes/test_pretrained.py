"""`save_mode: "pretrained"`: what is written, what is proven of it, and what is refused."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors
import transformers

from tests import tiny
from tests.export.helpers import config_for, copy, edit_json, listing, refused
from torchscript_bundle.export import hints
from torchscript_bundle.export.archive import pack
from torchscript_bundle.export.exporter import export
from torchscript_bundle.serving.artifact import Bundle

Artifact = Callable[[str], Path]

FILES = [
    *("bundle.json", "pretrained_model", "pretrained_model/config.json"),
    *("pretrained_model/model.safetensors", "setup_config.json", "tokenizer.json"),
]
CODE = ["pretrained_model/configuration_branching.py", "pretrained_model/modeling_branching.py"]


class BatchNormedConfig(transformers.BertConfig):
    model_type = "batch_normed"


class BatchNormed(transformers.BertForSequenceClassification):
    """Divides by the largest logit of the batch."""

    config_class = BatchNormedConfig

    def forward(self, *arguments: Any, **named: Any) -> Any:
        output = super().forward(*arguments, **named)
        output.logits = output.logits / output.logits.abs().max()
        return output


class ForgetfulConfig(transformers.BertConfig):
    model_type = "forgetful"


class Forgetful(transformers.BertForSequenceClassification):
    """Keeps half of what its file says."""

    config_class = ForgetfulConfig

    def save_pretrained(self, *arguments: Any, state_dict: dict[str, Any], **named: Any) -> None:
        halved = {key: tensor / 2 for key, tensor in state_dict.items()}
        super().save_pretrained(*arguments, state_dict=halved, **named)


class UnsavedConfig(transformers.BertConfig):
    model_type = "unsaved"


class Unsaved(transformers.BertForSequenceClassification):
    """Writes no weights."""

    config_class = UnsavedConfig

    def save_pretrained(self, folder: Path, **named: Any) -> None:
        self.config.save_pretrained(folder)


class PartialConfig(transformers.BertConfig):
    model_type = "partial"


class Partial(transformers.BertForSequenceClassification):
    """Loses a weight."""

    config_class = PartialConfig

    def save_pretrained(self, *arguments: Any, state_dict: dict[str, Any], **named: Any) -> None:
        kept = {key: tensor for key, tensor in state_dict.items() if key != "classifier.bias"}
        super().save_pretrained(*arguments, state_dict=kept, **named)


for kind in (BatchNormed, Forgetful, Unsaved, Partial):
    transformers.AutoConfig.register(kind.config_class.model_type, kind.config_class)
    transformers.AutoModelForSequenceClassification.register(kind.config_class, kind)


@pytest.fixture
def model(checkpoint: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of the BERT checkpoint, to be changed."""
    return copy(checkpoint("bert"), tmp_path / "model")


def export_eager(folder: Path, model: Path, **settings: Any) -> Bundle:
    """Exports a checkpoint into `folder/artifact`."""
    config = config_for(folder, model, save_mode="pretrained", **settings)
    return export(config, folder / "artifact")


def as_class(model: Path, kind: type) -> Path:
    """Says in a checkpoint's config that it is of another class."""
    model_type = kind.config_class.model_type  # type: ignore[attr-defined]
    edit_json(model / "config.json", model_type=model_type, architectures=[kind.__name__])
    return model


def test_what_an_artifact_holds(eager_artifact: Artifact, artifact: Artifact) -> None:
    folder = eager_artifact("bert")
    assert listing(folder) == FILES
    facts = json.loads((folder / "bundle.json").read_text())
    files = [name for name in FILES[2:] if (folder / name).is_file()]
    assert facts["sha256"] == {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files
    }
    assert facts["sizes"] == {name: (folder / name).stat().st_size for name in files}
    traced = json.loads((artifact("bert") / "bundle.json").read_text())
    ours = {"save_mode", "save_options", "source", "sha256", "sizes", "verification"}
    assert {key for key in facts if facts[key] != traced[key]} == ours
    assert facts["save_options"] == {
        "auto_class": "AutoModelForSequenceClassification",
        "trust_remote_code": False,
    }


def test_the_report_has_the_form_and_the_cases_of_a_trace(
    eager_artifact: Artifact, artifact: Artifact
) -> None:
    ours, traced = (Bundle.load(each("bert")).verification for each in (eager_artifact, artifact))
    assert ours.keys() == traced.keys()
    assert [case["shape"] for case in ours["cases"]] == [case["shape"] for case in traced["cases"]]
    assert {case["verdict"] for case in ours["cases"]} == {"exact"}
    assert ours["holds"] == "any batch, any length from 2 to 64"
    assert ours["refused_claims"] == {} and ours["tracer_warnings"] == []


def test_the_same_model_gives_the_same_bytes_without_what_its_answers_do_not_need(
    checkpoint: Callable[[str], Path], eager_artifact: Artifact, tmp_path: Path
) -> None:
    """transformers makes up weights for the pooler that this checkpoint does not have."""
    settings = {"mode": "feature_extraction", "max_length": 64, "traced_lengths": [16, 32]}
    again = export_eager(tmp_path, checkpoint("bert_embedding"), **settings).sha256
    first = Bundle.load(eager_artifact("bert_embedding")).sha256
    weights = "pretrained_model/model.safetensors"
    assert again[weights] == first[weights]
    with safetensors.safe_open(tmp_path / "artifact" / weights, "pt") as file:
        names = set(file.keys())
    assert "encoder.layer.0.output.dense.weight" in names
    assert not [name for name in names if name.startswith("pooler.")]


def test_rows_that_cannot_run_together_run_alone(eager_artifact: Artifact) -> None:
    bundle = Bundle.load(eager_artifact("bart"))
    assert (bundle.dynamic_batch, bundle.dynamic_length) == (False, True)
    [reason] = bundle.verification["refused_claims"].values()
    assert "cannot run such rows together" in reason
    assert len(bundle.verification["cases"]) > 10


def test_rows_that_change_each_other_run_alone(model: Path, tmp_path: Path) -> None:
    bundle = export_eager(tmp_path, as_class(model, BatchNormed))
    assert (bundle.dynamic_batch, bundle.dynamic_length) == (False, True)
    [(claim, reason)] = bundle.verification["refused_claims"].items()
    assert claim == "any batch, any length"
    assert "rows answer otherwise together than alone" in reason


def test_padding_that_is_read_is_told(eager_artifact: Artifact) -> None:
    assert Bundle.load(eager_artifact("convbert")).reads_padding is True
    assert Bundle.load(eager_artifact("bert")).reads_padding is False


def test_code_that_branches_on_the_text_is_not_traced_and_is_run(tmp_path: Path) -> None:
    model = tiny.save_branching(tmp_path / "model")
    with refused("TorchScript cannot serve this model", '"save_mode": "pretrained"') as refusal:
        export(config_for(tmp_path, model, trust_remote_code=True), tmp_path / "artifact")
    assert refusal.sentence
    bundle = export_eager(tmp_path, model, trust_remote_code=True)
    assert bundle.verification["holds"] == "any batch, any length from 2 to 16"
    assert set(CODE) < set(bundle.sha256)
    assert listing(tmp_path / "artifact") == sorted([*FILES, *CODE])
    with refused("needs Python code of its own", '"trust_remote_code": true'):
        export_eager(tmp_path, model)


def test_a_head_without_weights_is_refused(tmp_path: Path) -> None:
    tiny.save_checkpoint(tmp_path / "model", tiny.bert_base)
    with refused("has no weights for", "would answer at random"):
        export_eager(tmp_path, tmp_path / "model")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Forgetful, ["the saved files differ at", "output 0"]),
        (Unsaved, ["the model cannot be saved and loaded again", "no file named model.safe"]),
        (Partial, ["the saved files lack classifier.bias"]),
    ],
)
def test_files_that_are_not_the_model_are_refused(
    model: Path, tmp_path: Path, kind: type, words: list[str]
) -> None:
    (tmp_path / "place").mkdir()
    config = config_for(tmp_path, as_class(model, kind), save_mode="pretrained")
    with refused(*words) as refusal:
        export(config, tmp_path / "place" / "artifact")
    assert refusal.sentence
    assert listing(tmp_path / "place") == []


def test_architectures_that_are_of_no_use_are_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(hints.REFUSED, "bert", "it is of no use")
    with refused("bert cannot be served: it is of no use"):
        export_eager(tmp_path, model)


def test_the_archive_has_the_folder_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    model = tiny.save_branching(tmp_path / "model")
    config = config_for(tmp_path, model, save_mode="pretrained", trust_remote_code=True)
    export(config, tmp_path / "artifact")
    path = pack(tmp_path / "artifact", tmp_path / "first", config)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        manifest = json.loads(archive.read("MAR-INF/MANIFEST.json"))
        for name in [*FILES, *CODE]:
            if (tmp_path / "artifact" / name).is_file():
                assert archive.read(name) == (tmp_path / "artifact" / name).read_bytes()
    assert not [name for name in names if name.endswith(".pt")]
    assert "serializedFile" not in manifest["model"]
    assert (
        pack(tmp_path / "artifact", tmp_path / "second", config).read_bytes() == path.read_bytes()
    )
    (tmp_path / "artifact" / CODE[1]).write_text("raise SystemExit")
    with refused("modeling_branching.py is not the file that bundle.json describes"):
        pack(tmp_path / "artifact", tmp_path / "third", config)
