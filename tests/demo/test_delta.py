"""The demo model is its start and the delta: as trained, everywhere the same, nothing else's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from demo import delta, start
from demo.checkpoint import write_checkpoint
from demo.compress import compress
from demo.reviews import FILE, Split, read_reviews, split
from demo.train import accuracy
from tests.disks import disk


@pytest.fixture(scope="module")
def encoder() -> Path:
    return start.encoder_folder()


@pytest.fixture(scope="module")
def beginning(encoder: Path) -> start.Weights:
    return start.start_weights(encoder)


@pytest.fixture(scope="module")
def merged(beginning: start.Weights) -> start.Weights:
    return delta.merge(beginning, load_file(delta.DELTA))


@pytest.fixture(scope="module")
def model_folder(
    encoder: Path, merged: start.Weights, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "model"
    write_checkpoint(folder, encoder, merged, split(read_reviews()), {})
    return folder


def test_fresh_layers_start_as_torch_would_draw_them(beginning: start.Weights) -> None:
    torch.manual_seed(0)
    head = torch.nn.init.normal_(torch.empty(2, 384), std=0.02)
    query = torch.nn.init.normal_(torch.empty(384, 384), std=0.02)
    for name, drawn in (("classifier", head), ("bert.encoder.layer.4.attention.self.query", query)):
        ours = torch.from_numpy(beginning[f"{name}.weight"])
        torch.testing.assert_close(ours, drawn, rtol=2**-11, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (7, 13)])
def test_steps_survive_packing(shape: tuple[int, int]) -> None:
    steps = np.random.default_rng(0).integers(-1, 2, shape)
    packed = delta.pack(steps)
    assert packed.size == -(-steps.size // 5)
    assert np.array_equal(delta.unpack(packed, shape), steps)


def test_what_was_compressed_comes_back_nearly(beginning: start.Weights) -> None:
    """Of normal changes 81% of the variance; vectors to float16's precision; the rest untouched."""
    matrix, vector = "bert.encoder.layer.0.output.dense.weight", "classifier.bias"
    change = np.random.default_rng(0).normal(0, 0.003, beginning[matrix].shape)
    trained = {
        **beginning,
        matrix: (beginning[matrix] + change).astype(np.float32),
        vector: np.array([0.1, -0.2], np.float32),
    }
    small = compress(beginning, trained)
    assert set(small) == {f"{matrix}.steps", f"{matrix}.size", vector}
    again = delta.merge(beginning, small)
    assert np.var(again[matrix] - trained[matrix]) / np.var(change) == pytest.approx(0.19, abs=0.01)
    assert again[vector] == pytest.approx(trained[vector], rel=1e-3)


def test_the_checkpoint_is_what_transformers_reads(
    merged: start.Weights, model_folder: Path
) -> None:
    model, loading = AutoModelForSequenceClassification.from_pretrained(
        model_folder, output_loading_info=True
    )
    assert not any(loading.values())
    assert model.config.id2label == {0: "NEGATIVE", 1: "POSITIVE"}
    state = model.state_dict()
    assert [name for name in merged if not np.array_equal(state[name].numpy(), merged[name])] == []
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    assert tokenizer.model_max_length == 512
    assert [len(row) for row in tokenizer(["Not bad.", "word " * 200])["input_ids"]] == [5, 202]


def test_the_bytes_are_those_that_were_measured(model_folder: Path) -> None:
    """Those of the machine on which `demo/compress.py` ran."""
    digest = delta.sha256(model_folder / start.WEIGHTS)
    assert digest == delta.read_metadata()["model_sha256"]


def test_another_encoder_is_refused(encoder: Path, tmp_path: Path) -> None:
    shutil.copy(encoder / start.WEIGHTS, tmp_path)
    with (tmp_path / start.WEIGHTS).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    with pytest.raises(SystemExit, match=r"is not the encoder that .* was trained from"):
        delta.check(tmp_path)


def test_other_reviews_are_refused(encoder: Path, tmp_path: Path) -> None:
    """Some of those to hold out could have been trained on."""
    changed = tmp_path / "reviews.csv"
    changed.write_text(FILE.read_text(encoding="utf-8") + "POSITIVE,food,Lovely soup.\n")
    delta.check(encoder)
    with pytest.raises(SystemExit, match=r"has changed since .* `make finetune`"):
        delta.check(encoder, changed)


def test_a_full_disk_leaves_nothing(encoder: Path, merged: start.Weights, tmp_path: Path) -> None:
    with disk(tmp_path / "small", 4000) as place:
        with pytest.raises(SystemExit, match=r"are free; .* another folder with --output"):
            write_checkpoint(place / "model", encoder, merged, Split([], []), {})
        assert list(place.iterdir()) == []


@pytest.mark.slow
def test_held_out_accuracy_is_what_the_delta_says(model_folder: Path) -> None:
    held_out = split(read_reviews()).held_out
    model = AutoModelForSequenceClassification.from_pretrained(model_folder)
    share = accuracy(model, AutoTokenizer.from_pretrained(model_folder), held_out)
    report = json.loads(delta.read_metadata()["report"])
    # Another CPU may round a review that is on the edge to the other side.
    assert share == pytest.approx(report["held_out_accuracy"], abs=2 / len(held_out))
    assert share >= 0.92
