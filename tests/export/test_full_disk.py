"""Full disks and read-only folders: one sentence, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.disks import disk
from tests.export.helpers import config_for, listing, refused
from torchscript_bundle.export.archive import pack
from torchscript_bundle.export.config import load_config
from torchscript_bundle.export.exporter import export

ROOM = ("could not be written (No space left on device): about ", "needed, ", "free; make room")


@pytest.mark.parametrize("save_mode", ["torchscript", "pretrained"])
def test_an_export(checkpoint: Callable[[str], Path], tmp_path: Path, save_mode: str) -> None:
    config = config_for(tmp_path, checkpoint("bert"), save_mode=save_mode)
    with disk(tmp_path / "full", 100) as place:
        with refused(str(place), *ROOM, "or give another folder with --output") as refusal:
            export(config, place / "Transformer_model")
        assert refusal.sentence
        assert listing(place) == []


def test_an_export_into_a_read_only_folder(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    config = config_for(tmp_path, checkpoint("bert"))
    with (
        disk(tmp_path / "place", 100, "ro") as place,
        refused(str(place), "Read-only file system", "--output") as refusal,
    ):
        export(config, place / "Transformer_model")
    assert refusal.sentence


@pytest.mark.parametrize("kilobytes", [50, 900, 1800])
def test_an_archive(
    checkpoint: Callable[[str], Path],
    artifact: Callable[[str], Path],
    tmp_path: Path,
    kilobytes: int,
) -> None:
    """At several steps of the packing, ours and torch-model-archiver's."""
    config = load_config(checkpoint("bert") / "setup_config.json")
    with disk(tmp_path / "store", kilobytes) as store:
        with refused(str(store), *ROOM, "or give another folder with --model-store") as refusal:
            pack(artifact("bert"), store, config)
        assert refusal.sentence
        assert listing(store) == []


def test_an_archive_into_a_read_only_folder(
    checkpoint: Callable[[str], Path], artifact: Callable[[str], Path], tmp_path: Path
) -> None:
    config = load_config(checkpoint("bert") / "setup_config.json")
    with (
        disk(tmp_path / "store", 50, "ro") as store,
        refused(str(store), "Read-only file system", "--model-store") as refusal,
    ):
        pack(artifact("bert"), store, config)
    assert refusal.sentence
