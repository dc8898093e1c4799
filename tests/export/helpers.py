"""Configs and checkpoints to export, and what must be true of a refusal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from torchscript_bundle.export.config import SetupConfig, load_config
from torchscript_bundle.export.errors import ExportError

MODE = "sequence_classification"


def write_config(folder: Path, **settings: Any) -> Path:
    """A short setup_config.json in `folder`."""
    path = folder / "setup_config.json"
    path.write_text(json.dumps({"mode": MODE, "max_length": 16, **settings}))
    return path


def config_for(folder: Path, model: Path, **settings: Any) -> SetupConfig:
    """The config in `folder` of a checkpoint on this disk."""
    return load_config(write_config(folder, model_name=str(model), **settings))


def copy(checkpoint: Path, folder: Path) -> Path:
    """A copy of a checkpoint to spoil."""
    return Path(shutil.copytree(checkpoint, folder))


def edit_json(path: Path, **changes: Any) -> None:
    """Changes keys of a JSON file; None removes one."""
    value = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: each for key, each in value.items() if each is not None}))


def listing(folder: Path) -> list[str]:
    """Every file and folder below, hidden ones too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@dataclass
class Refusal:
    """The lines of an ExportError, once it was raised."""

    lines: list[str]

    @property
    def sentence(self) -> str:
        """The only line."""
        assert len(self.lines) == 1
        return self.lines[0]


@contextmanager
def refused(*words: str) -> Iterator[Refusal]:
    """Expects an ExportError that says each of the words."""
    refusal = Refusal([])
    with pytest.raises(ExportError) as caught:
        yield refusal
    refusal.lines = str(caught.value).splitlines()
    for word in words:
        assert word in str(caught.value), str(caught.value)
