"""The .mar: what is in it, the same bytes each time, and nothing of a damaged artifact."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.export.helpers import copy, edit_json, listing, refused
from torchscript_bundle.export.archive import ROOT, main, pack
from torchscript_bundle.export.config import SetupConfig, load_config
from torchscript_bundle.sums import read_sums

REMAKE = "download_Transformer_models.py"


@pytest.fixture
def made(artifact: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of an artifact."""
    return copy(artifact("bert"), tmp_path / "Transformer_model")


@pytest.fixture
def config(checkpoint: Callable[[str], Path], made: Path) -> SetupConfig:
    """The config that `made` was made from."""
    return load_config(checkpoint("bert") / "setup_config.json")


def test_holds_all_that_a_worker_needs_and_no_more(
    made: Path, config: SetupConfig, tmp_path: Path
) -> None:
    path = pack(made, tmp_path / "store", config)
    assert listing(tmp_path / "store") == [f"{config.served_name}.mar"] == [path.name]
    serving = (ROOT / "torchscript_bundle" / "serving").rglob("*.py")
    with zipfile.ZipFile(path) as archive:
        assert set(archive.namelist()) == {
            "MAR-INF/MANIFEST.json",
            "MAR-INF/SHA256SUMS",
            "model-config.yaml",
            "Transformer_handler_generalized.py",
            *("bundle.json", "setup_config.json", "tokenizer.json", "traced_model.pt"),
            *("openapi.json", "samples.json"),
            "torchscript_bundle/__init__.py",
            *(file.relative_to(ROOT).as_posix() for file in serving),
        }
        *covered, last = archive.namelist()
        assert (covered, last) == (sorted(covered), "MAR-INF/SHA256SUMS")
        digests = {name: hashlib.sha256(archive.read(name)).hexdigest() for name in covered}
        assert read_sums(archive.read(last).decode()) == digests
        for entry in archive.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)
        for file in made.iterdir():
            assert archive.read(file.name) == file.read_bytes()
        manifest = json.loads(archive.read("MAR-INF/MANIFEST.json"))
        assert manifest["model"] == {
            "modelName": config.served_name,
            "modelVersion": "1.0",
            "handler": "Transformer_handler_generalized.py",
            "serializedFile": "traced_model.pt",
            "configFile": "model-config.yaml",
        }
        assert json.loads(archive.read("samples.json")) == config.samples
        api = json.loads(archive.read("openapi.json"))
        assert next(iter(api["paths"])) == f"/predictions/{config.served_name}"
        assert yaml.safe_load(archive.read("model-config.yaml")) == {
            "batchSize": config.batch_size,
            "maxBatchDelay": config.max_batch_delay,
            "responseTimeout": config.response_timeout,
            "startupTimeout": config.startup_timeout,
        }


def test_the_same_artifact_gives_the_same_bytes(
    made: Path, config: SetupConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At another time, in another folder, from files of another age and with other rights."""
    first = pack(made, tmp_path / "first", config).read_bytes()
    for file in made.iterdir():
        os.utime(file, (1e9, 1e9))
        file.chmod(0o600)
    monkeypatch.setenv("TZ", "UTC-9")
    second = pack(made.rename(tmp_path / "elsewhere"), tmp_path / "second", config).read_bytes()
    assert first == second


def test_an_older_archive_is_replaced(made: Path, config: SetupConfig, tmp_path: Path) -> None:
    old = tmp_path / f"{config.served_name}.mar"
    old.write_bytes(b"old")
    assert pack(made, tmp_path, config) == old
    assert zipfile.is_zipfile(old)


def damaged(name: str) -> Callable[[Path], None]:
    """Changes a byte in the middle."""

    def spoil(artifact: Path) -> None:
        content = bytearray((artifact / name).read_bytes())
        content[len(content) // 2] ^= 1
        (artifact / name).write_bytes(content)

    return spoil


def lost(name: str) -> Callable[[Path], None]:
    """Removes a file."""
    return lambda artifact: (artifact / name).unlink()


DIFFERS = ("is not the file that bundle.json describes", REMAKE)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (damaged("traced_model.pt"), ("traced_model.pt", *DIFFERS)),
        (damaged("tokenizer.json"), ("tokenizer.json", *DIFFERS)),
        (damaged("setup_config.json"), ("setup_config.json", *DIFFERS)),
        (lost("traced_model.pt"), ("traced_model.pt is missing", REMAKE)),
        (lost("bundle.json"), ("bundle.json is missing", REMAKE)),
        (
            lambda artifact: edit_json(artifact / "bundle.json", labels=None),
            ("bundle.json: no key labels", REMAKE),
        ),
        (
            lambda artifact: edit_json(artifact / "bundle.json", mode="translation"),
            ("mode 'translation' is not served", REMAKE),
        ),
        (
            lambda artifact: edit_json(artifact / "bundle.json", format_version=99),
            ("format_version is 99", REMAKE),
        ),
    ],
)
def test_a_damaged_artifact_is_refused(
    made: Path,
    config: SetupConfig,
    tmp_path: Path,
    spoil: Callable[[Path], None],
    words: tuple[str, ...],
) -> None:
    spoil(made)
    store = tmp_path / "store"
    store.mkdir()
    with refused(str(made), *words) as refusal:
        pack(made, store, config)
    assert refusal.sentence
    assert listing(store) == []


def test_an_artifact_of_another_config_is_refused(
    made: Path, config: SetupConfig, tmp_path: Path
) -> None:
    other = config.model_copy(update={"max_length": 63})
    with refused(str(made), "made from another config", REMAKE):
        pack(made, tmp_path / "store", other)
    assert not (tmp_path / "store").exists()


def test_a_store_that_cannot_be_made(made: Path, config: SetupConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for store in (tmp_path / "file", tmp_path / "file" / "below"):
        with refused(str(store), "could not be written", "--model-store"):
            pack(made, store, config)


def test_the_command(
    made: Path,
    config: SetupConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "setup_config.json"
    path.write_text(config.dump(), encoding="utf-8")
    name = "torchscript_bundle.export.archive"
    arguments = ["--config", str(path), "--artifact", str(made)]
    arguments += ["--model-store", str(tmp_path / "store")]
    command = [sys.executable, "-m", name, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (archive,) = (tmp_path / "store").iterdir()
    assert str(archive) in done.stdout and "MB" in done.stdout
    assert f"  sha256 {hashlib.sha256(archive.read_bytes()).hexdigest()}\n" in done.stdout

    edit_json(path, batch_size=0, max_length=1)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    assert main() == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"error: {path}: ") for line in lines)
