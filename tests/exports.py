"""Tiny checkpoints' exports, made once a run by whichever process needs them first."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.exporter import export
from torchscript_bundle.serving.artifact import CONFIG_FILE, Bundle, file_sha256

#: Keys that change no file of an artifact but its config.
SERVED = frozenset(
    {
        *("model_name", "archive_name", "batch_size", "max_batch_delay", "max_client_batch"),
        *("response_timeout", "startup_timeout", "max_call_seconds", "explanation_steps"),
    }
)


def common(factory: pytest.TempPathFactory, name: str) -> Path:
    """Return a folder that all processes of a run have in common."""
    own = factory.getbasetemp()
    root = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    (root / name).mkdir(exist_ok=True)
    return root / name


def once(to: Path, make: Callable[[Path], object]) -> Path:
    """Return `to`, which one process makes; another that needs it meanwhile waits."""
    to.parent.mkdir(exist_ok=True)
    made = to.with_name(f"{to.name}.made")
    with to.with_name(f"{to.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            make(to)
            made.touch()
    return to


class Exports:
    """Exports by the content of checkpoint and config.

    Attributes:
        root: folder of all of them, common to the processes of a run.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, config: SetupConfig, checkpoint: Path, to: Path) -> Path:
        """Write the artifact of a config and its checkpoint into `to`, which may be changed."""
        assert not config.artifacts.is_dir(), "labels and samples are not part of the key"
        assert config.precision == "float32", "neither are texts that a precision is tried on"
        made = once(self.root / _key(config, checkpoint), lambda folder: export(config, folder))
        shutil.copytree(made, to)
        (to / CONFIG_FILE).write_text(config.dump(), encoding="utf-8")
        bundle = Bundle.load(to)
        digest, size = file_sha256(to / CONFIG_FILE), (to / CONFIG_FILE).stat().st_size
        replace(
            bundle,
            source={**bundle.source, "model_name": config.model_name},
            sha256={**bundle.sha256, CONFIG_FILE: digest},
            sizes={**bundle.sizes, CONFIG_FILE: size},
        ).dump(to)
        return to


def _key(config: SetupConfig, checkpoint: Path) -> str:
    """Return a digest of all that an export reads."""
    facts = {key: value for key, value in json.loads(config.dump()).items() if key not in SERVED}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for path in sorted(checkpoint.rglob("*")):
        if path.is_file() and path.name != CONFIG_FILE:
            digest.update(f"{path.relative_to(checkpoint)} {file_sha256(path)}".encode())
    return digest.hexdigest()
