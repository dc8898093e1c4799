"""The package as pip installs it, away from this repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from torchscript_bundle.commands import COMMANDS
from torchscript_bundle.export.archive import HANDLER
from torchscript_bundle.server import BASE_PROPERTIES, LOG_CONFIG, ROOT

BUILD = "import sys, setuptools.build_meta as build; build.build_wheel(sys.argv[1])"


def test_what_pip_installs_has_all_that_the_command_needs(tmp_path: Path) -> None:
    """The whole code, the handler and TorchServe's settings, as files of their own."""
    source, installed, folder = (tmp_path / name for name in ("source", "installed", "empty"))
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("torchscript_bundle", "deploy"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE", HANDLER.name):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-c", BUILD, str(tmp_path)]
    subprocess.run(command, cwd=source, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(installed)

    code = (ROOT / "torchscript_bundle").rglob("*.py")
    for path in (*code, HANDLER, BASE_PROPERTIES, LOG_CONFIG):
        copy = installed / path.relative_to(ROOT)
        assert copy.read_bytes() == path.read_bytes() and not copy.is_symlink()
    (names,) = installed.glob("*.dist-info/entry_points.txt")
    assert "torchscript-bundle = torchscript_bundle.__main__:main" in names.read_text()

    folder.mkdir()
    listed = subprocess.run(
        [sys.executable, "-m", "torchscript_bundle", "--help"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert [name for name in COMMANDS if f" {name} " not in listed] == []
    assert list(folder.iterdir()) == []
