"""From `precision` to what an artifact is served in, or to a refusal with figures."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tiny
from tests.cpu import needs_bfloat16, needs_int8
from tests.export.helpers import config_for, refused
from tests.serving.helpers import CPU, change
from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.exporter import export
from torchscript_bundle.export.quality import choice, gate
from torchscript_bundle.export.quality.choice import settle_precision
from torchscript_bundle.export.quality.decisions import Comparison, RowOutputs
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.engine.onednn import packed_weights as weights
from torchscript_bundle.serving.service import Service

Artifact = Callable[[str], Path]
TEXTS = [*tiny.CORPUS, *(" ".join(text.split()[:4]) for text in tiny.CORPUS), "soup", "x"]


def config(folder: Path, **settings: Any) -> SetupConfig:
    (folder / "texts.txt").write_text("\n".join([*TEXTS, '{"texts": 1}']))
    settings = {"precision": "bfloat16", "calibration_file": "texts.txt", **settings}
    return config_for(folder, settings.pop("model", folder), **settings)


def settle(artifact: Path, folder: Path, **settings: Any) -> Bundle:
    """What becomes of an artifact, in a copy of it; its config stands in `folder`."""
    copied = change(artifact, folder / "artifact")
    return settle_precision(config(folder, **settings), copied, Bundle.load(copied))


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights: their scores are near each other, and half of the tests would be chance."""
    monkeypatch.setattr(gate, "LEAST_KEPT", 0.5)
    monkeypatch.setattr(gate, "MEAN_CHANGE", 0.2)


@needs_bfloat16
@pytest.mark.usefixtures("lenient")
def test_artifact_is_served_in_what_passed(
    checkpoint: Artifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    made = export(config(tmp_path, model=checkpoint("bert"), max_length=32), tmp_path / "out")
    assert made.precision == "bfloat16"
    written = Bundle.load(tmp_path / "out")
    assert written.precision == "bfloat16"
    written.check_files(tmp_path / "out")
    quality = written.quality
    assert (quality["asked"], quality["texts_from"]) == ("bfloat16", "texts.txt")
    assert (quality["lines_tried"], quality["refused_lines"]) == (12, [13])
    [found] = quality["tried"]
    assert (found["precision"], found["decisions"], found["passed"]) == ("bfloat16", 12, True)
    assert 0 < found["mean_change"] <= found["largest_change"]
    assert "texts.txt, line 13 is left out: " in caplog.text
    assert "decisions as in float32" in caplog.text
    assert "warm-up" not in caplog.text
    assert not [text for text in TEXTS if len(text) > 9 and text in caplog.text]
    module = torch.jit.load(str(tmp_path / "out" / "traced_model.pt"))
    assert {weight.dtype for weight in module.parameters()} == {torch.float32}
    assert Service(tmp_path / "out", CPU).running.precision == "bfloat16"


def test_float32_needs_no_trial(artifact: Artifact, tmp_path: Path) -> None:
    settled = settle(artifact("bert"), tmp_path, precision="float32", calibration_file="none")
    assert settled == Bundle.load(artifact("bert"))
    assert (settled.precision, settled.quality) == ("float32", {})


@needs_bfloat16
def test_what_changes_too_much_is_refused_with_the_figures(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "MEAN_CHANGE", 0.0)
    words = ('precision: "bfloat16" changes too much', "of 12 decisions as in float32", "in the m")
    with refused(*words, 'set another precision ("float32" is exact)') as refusal:
        settle(artifact("bert"), tmp_path)
    assert not any(text in refusal.sentence for text in TEXTS if len(text) > 9)


def test_what_this_machine_has_not_cannot_be_tried(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(self: weights.PackedWeights, dtype: torch.dtype) -> None:
        raise weights.UnavailableError("this CPU has no such instructions")

    monkeypatch.setattr(weights.PackedWeights, "__init__", none)
    with refused("cannot be tried: this CPU has no such", "export on a machine like those that"):
        settle(artifact("bert"), tmp_path)
    made = settle(artifact("bert"), tmp_path, precision="auto")
    assert made.precision == "float32"
    assert "no such instructions" in made.quality["tried"][0]["not_tried"]


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize("fast", ["float32", pytest.param("bfloat16", marks=needs_bfloat16)])
def test_auto_takes_the_fastest(
    artifact: Artifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fast: str,
) -> None:
    caplog.set_level(logging.INFO)
    times = {"float32": 9.0, "bfloat16": 9.0, fast: 5.0}
    monkeypatch.setattr(
        choice, "measure", lambda workers, _: {each: times[each] for each in workers}
    )
    made = settle(artifact("bert"), tmp_path, precision="auto")
    assert made.precision == fast
    assert made.quality["asked"] == "auto"
    assert made.quality["milliseconds_a_text"][fast] == 5.0
    assert f"      {fast}: 5.00 ms a text" in caplog.messages
    assert f"      chosen: {fast}" in caplog.messages


def test_texts_that_no_worker_would_answer_are_no_trial(artifact: Artifact, tmp_path: Path) -> None:
    (tmp_path / "wrong.txt").write_text('{"texts": 1}\n{"texts": 2}\n')
    with refused("none of the 2 texts of wrong.txt can be answered (", "give a calibration_file"):
        settle(artifact("bert"), tmp_path, calibration_file="wrong.txt")


def test_int8_is_not_calibrated_on_a_few_samples(artifact: Artifact, tmp_path: Path) -> None:
    words = ("32 texts at least", "the sample requests has 1 ", "give a calibration_file, one text")
    with refused('precision: "int8" cannot be tried: ', *words):
        settle(artifact("bert"), tmp_path, precision="int8", calibration_file=None)


@needs_int8
@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize(("lines", "calibrating", "tried"), [(40, 40, 40), (64, 32, 32)])
def test_int8_is_calibrated_apart_where_there_are_enough_texts(
    artifact: Artifact, tmp_path: Path, lines: int, calibrating: int, tried: int
) -> None:
    (tmp_path / "many.txt").write_text("".join(f"soup {at} days\n" for at in range(lines)))
    made = settle(artifact("bert"), tmp_path, precision="int8", calibration_file="many.txt")
    assert made.precision == "int8"
    quality = made.quality
    assert (quality["lines_calibrated_on"], quality["lines_tried"]) == (calibrating, tried)
    assert quality["held_apart"] is (calibrating + tried == lines)
    folder = change(tmp_path / "artifact", tmp_path / "artifact", bundle={"precision": "int8"})
    assert Service(folder, CPU).running.precision == "int8"


@pytest.mark.usefixtures("lenient")
def test_auto_leaves_no_calibration_that_is_not_used(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "many.txt").write_text("".join(f"soup {at} days\n" for at in range(64)))
    for fast, others in (("int8", 9.0), ("bfloat16", 9.0)):
        times = {"float32": others, "bfloat16": others, "int8": others, fast: 1.0}
        monkeypatch.setattr(choice, "measure", lambda *_, times=times: times)
        made = settle(artifact("bert"), tmp_path, precision="auto", calibration_file="many.txt")
        assert made.precision == fast
        assert [each["precision"] for each in made.quality["tried"]] == ["bfloat16", "int8"]
        assert (tmp_path / "artifact" / "calibration.json").is_file() is (fast == "int8")


#: A tiny checkpoint of each mode, the mode, and a request.
EACH: list[tuple[str, str, Any]] = [
    ("bert_ner", "token_classification", "Café, naïve soup"),
    ("bert_mlm", "fill_mask", "It [MASK] as [MASK]."),
    (
        "bert_qa",
        "question_answering",
        {"question": "How long?", "context": "It lasts two days. " * 9},
    ),
    ("bert_embedding", "feature_extraction", "It works."),
    ("bert_sparse", "sparse_embedding", "It works."),
    ("bert_reranker", "reranking", {"query": "soup", "passages": ["It works.", "a film", "days"]}),
    ("bert_nli", "zero_shot_classification", {"text": "It works.", "candidate_labels": "a, b"}),
]


@needs_bfloat16
@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize(("name", "mode", "request_"), EACH, ids=[mode for _, mode, _ in EACH])
def test_every_mode_can_be_tried(
    artifact: Artifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    mode: str,
    request_: Any,
) -> None:
    sizes: list[int] = []

    def counted(self: Any, expected: Any, actual: Any, options: Any) -> Comparison:
        sizes.append(len(expected))
        assert all(isinstance(row, RowOutputs) for row in (*expected, *actual))
        return compare(self, expected, actual, options)

    kind = type(choice.MODES[mode])
    compare = kind.compare
    monkeypatch.setattr(kind, "compare", counted)
    (tmp_path / "each.txt").write_text(f"{json.dumps(request_)}\n{json.dumps(request_)}  \n")
    settings = {"mode": mode, "calibration_file": "each.txt"}
    monkeypatch.setattr(gate, "LEAST_KEPT", 0.0)
    made = settle(artifact(name), tmp_path, **settings)
    assert made.precision == "bfloat16"
    assert len(sizes) == 1
