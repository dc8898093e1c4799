"""The archive alone: no transformers, no network, nothing of this repository."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import Site
from tests.integration.helpers import close
from torchscript_bundle.server import ROOT

SERVE_PYTHON = ROOT / ".venv-serve" / "bin" / "python"


@pytest.fixture(scope="module")
def serve_python() -> str:
    """Python of an environment with torch, tokenizers and torchserve only."""
    if not SERVE_PYTHON.is_file():
        pytest.fail(f"{SERVE_PYTHON} is not there; `make test` makes it first")
    return str(SERVE_PYTHON)


@pytest.mark.parametrize("package", ["transformers", "torchscript_bundle", "pydantic", "numpy"])
def test_the_environment_lacks_what_builds(serve_python: str, package: str) -> None:
    command = [serve_python, "-c", f"import {package}"]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError" in done.stderr


def test_the_archive_alone_serves(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    serve_python: str,
    tiny_site: Site,
    start_site: Callable[..., Site],
) -> None:
    """Only the `.mar` is there, the Hub is a closed port, and the answers are the same."""
    archive = Path(shutil.copy(tiny_site.archive, tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    site = start_site(tiny_site.checkpoint, archive, python=serve_python)
    body = json.dumps(["It works.", "Not bad at all.", "hour " * 100, "Café"]).encode()
    alone = site.server.predict(body, content_type="application/json")
    beside = tiny_site.server.predict(body, content_type="application/json")
    assert alone.status == 200
    # Each server cuts batches by costs it measured itself: scores may differ by rounding.
    assert close(alone.json(), beside.json()), (alone, beside)
    [worker] = site.server.worker_pids
    assert serve_python in Path(f"/proc/{worker}/cmdline").read_text()
