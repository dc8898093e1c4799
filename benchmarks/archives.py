"""Config -> archive, by the commands that a user types.

An export takes minutes (it is proven), so its artifact is kept until the code that makes it
changes; the archive around it is packed anew each time, with the serving code as it is.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.model import CACHE
from torchscript_bundle.server import ROOT

#: What all archives of the benchmark have in common.
COMMON = {"mode": "sequence_classification", "max_length": 150}
COMPLETE = "complete.json"
#: What an artifact is made by.
EXPORT_CODE = ("export", "jit", "serving/engine", "serving/artifact.py")


class NotMade(Exception):
    """There is no archive, and this is why."""


@dataclass(frozen=True)
class Made:
    """An archive with the config and the artifact that it was made from."""

    config: Path
    artifact: Path
    archive: Path

    @property
    def settings(self) -> dict[str, Any]:
        """What the config says."""
        return dict(json.loads(self.config.read_text(encoding="utf-8")))


def make_archive(name: str, checkpoint: Path, settings: Mapping[str, Any]) -> Made:
    """The archive of a checkpoint.

    Args:
        name: of the archive and of the served model.
        checkpoint: folder of the model.
        settings: keys of the config beside `COMMON`.

    Raises:
        NotMade: the export or the archiver refused, in their own words.
    """
    folder = CACHE / f"{checkpoint.name}-{name}"
    made = Made(folder / "setup_config.json", folder / "artifact", folder / f"{name}.mar")
    wanted = {"model_name": str(checkpoint), "archive_name": name, **COMMON, **settings}
    if not is_made(folder, wanted):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        made.config.write_text(json.dumps(wanted, indent=2))
        _run("download_Transformer_models.py", str(made.config), "--output", str(made.artifact))
        (folder / COMPLETE).write_text(json.dumps(digest_code()))
    paths = ("--artifact", str(made.artifact), "--model-store", str(folder))
    _run("-m", "torchscript_bundle.export.archive", "--config", str(made.config), *paths)
    return made


def digest_code() -> str:
    """Changes when the code does that artifacts are made by."""
    package = ROOT / "torchscript_bundle"
    digest = hashlib.sha256()
    for name in EXPORT_CODE:
        path = package / name
        for source in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(source.read_bytes())
    return digest.hexdigest()


def is_made(folder: Path, wanted: dict[str, Any]) -> bool:
    """Whether the artifact is there, of this config and by this code."""
    complete, config = folder / COMPLETE, folder / "setup_config.json"
    return (
        complete.is_file()
        and json.loads(complete.read_text()) == digest_code()
        and json.loads(config.read_text()) == wanted
    )


def _run(*arguments: str) -> None:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotMade((done.stderr.strip() or done.stdout.strip()).splitlines()[-1])
