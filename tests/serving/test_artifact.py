"""The artifact's contract: written and read alike, and refused when it is not whole."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.serving.helpers import BUNDLE, CPU, STATIC
from torchscript_bundle.serving.artifact import (
    BUNDLE_FILE,
    CONFIG_FILE,
    MODULE_FILE,
    TOKENIZER_FILE,
    Bundle,
    ServingOptions,
    file_sha256,
)
from torchscript_bundle.serving.errors import ArtifactError
from torchscript_bundle.serving.service import Service

Artifact = Callable[[str], Path]
Damage = Callable[[Path], object]

FIX = "make the artifact again with download_Transformer_models.py"


@pytest.mark.parametrize("bundle", [BUNDLE, STATIC])
def test_bundle_is_read_as_it_was_written(bundle: Bundle, tmp_path: Path) -> None:
    bundle.dump(tmp_path)
    assert Bundle.load(tmp_path) == bundle


def test_digests_are_those_of_the_files(artifact: Artifact) -> None:
    bundle = Bundle.load(artifact("bert"))
    assert set(bundle.files) == {MODULE_FILE, TOKENIZER_FILE, CONFIG_FILE}
    for name in bundle.files:
        content = (artifact("bert") / name).read_bytes()
        assert bundle.sha256[name] == file_sha256(artifact("bert") / name)
        assert bundle.sha256[name] == hashlib.sha256(content).hexdigest()
        assert bundle.sizes[name] == len(content)
    bundle.check_files(artifact("bert"))


def test_options_are_those_of_the_config(artifact: Artifact) -> None:
    options = ServingOptions(
        batch_size=16,
        max_client_batch=64,
        response_timeout=120,
        max_call_seconds=3.0,
        explanation_steps=50,
        explanation_batch_size=16,
        on_too_long="truncate",
        packed_weights=True,
        padding="longest",
    )
    assert ServingOptions.load(artifact("bert")) == options


def edit(**facts: Any) -> Damage:
    """Sets keys of bundle.json; None takes the key out."""

    def damage(folder: Path) -> None:
        raw = {**json.loads((folder / BUNDLE_FILE).read_text()), **facts}
        kept = {key: value for key, value in raw.items() if value is not None}
        (folder / BUNDLE_FILE).write_text(json.dumps(kept))

    return damage


def flip_a_byte(name: str) -> Damage:
    def damage(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return damage


def drop_option(folder: Path) -> None:
    """Takes batch_size out of setup_config.json and keeps the digest true."""
    config = json.loads((folder / CONFIG_FILE).read_text())
    del config["batch_size"]
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    digests = Bundle.load(folder).sha256
    edit(sha256={**digests, CONFIG_FILE: file_sha256(folder / CONFIG_FILE)})(folder)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (flip_a_byte(MODULE_FILE), f"{MODULE_FILE} is not the file"),
        (flip_a_byte(TOKENIZER_FILE), f"{TOKENIZER_FILE} is not the file"),
        (flip_a_byte(CONFIG_FILE), f"{CONFIG_FILE} is not the file"),
        (lambda folder: (folder / BUNDLE_FILE).unlink(), f"{BUNDLE_FILE} is missing"),
        (lambda folder: (folder / MODULE_FILE).unlink(), f"{MODULE_FILE} is missing"),
        (lambda folder: (folder / TOKENIZER_FILE).unlink(), f"{TOKENIZER_FILE} is missing"),
        (lambda folder: (folder / CONFIG_FILE).unlink(), f"{CONFIG_FILE} is missing"),
        (lambda folder: (folder / BUNDLE_FILE).write_text("{"), f"{BUNDLE_FILE} is not JSON"),
        (lambda folder: (folder / BUNDLE_FILE).write_bytes(b"\xff"), f"{BUNDLE_FILE} is not JSON"),
        (lambda folder: (folder / BUNDLE_FILE).write_text("[]"), "is not a JSON object"),
        (edit(format_version=1), f"{BUNDLE_FILE}: format_version is 1, this code reads 4"),
        (edit(format_version=None), f"{BUNDLE_FILE}: format_version is None"),
        (edit(labels=None, padding=None), f"{BUNDLE_FILE}: no key labels, padding"),
        (edit(padding={"side": "left"}), f"{BUNDLE_FILE}: padding: "),
        (edit(padding="left"), f"{BUNDLE_FILE}: padding: "),
        (edit(labels=3), f"{BUNDLE_FILE}: labels: "),
        (edit(outputs=None), f"{BUNDLE_FILE}: no key outputs"),
        (edit(outputs=3), f"{BUNDLE_FILE}: outputs: "),
        (edit(outputs=["logits"]), f"{BUNDLE_FILE}: outputs: "),
        (edit(outputs=[{"name": "logits", "shape": 1}]), f"{BUNDLE_FILE}: outputs: "),
        (edit(sha256={}), f"{MODULE_FILE} is not the file"),
        (edit(save_mode=["torchscript"]), f"{BUNDLE_FILE}: save_mode ['torchscript'] is not"),
        (edit(save_mode="onnx"), f"{BUNDLE_FILE}: save_mode 'onnx' is not served; known are"),
        (edit(mode="telepathy"), f"{BUNDLE_FILE}: mode 'telepathy' is not served; known are"),
        (
            edit(mode_options={"problem_type": "hard"}),
            f"{BUNDLE_FILE}: mode_options.problem_type is 'hard'; known are",
        ),
        (drop_option, f"{CONFIG_FILE}: no key batch_size"),
    ],
)
def test_damaged_artifact_is_refused_with_the_file_and_the_fix(
    artifact: Artifact, tmp_path: Path, damage: Damage, says: str
) -> None:
    folder = tmp_path / "artifact"
    shutil.copytree(artifact("bert"), folder)
    damage(folder)
    with pytest.raises(ArtifactError) as caught:
        Service(folder, CPU)
    assert says in str(caught.value)
    assert FIX in str(caught.value)
