"""The benchmark itself, on one layer, for a few seconds."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.engines.lit import PYTHON
from torchscript_bundle.server import ROOT


def test_wrk_is_asked_for_where_it_is_missing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--only", "http"]
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        "error: the load comes from wrk, and it is not there: apt-get install wrk"
    )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
@pytest.mark.skipif(not PYTHON.is_file(), reason="needs make .build/setup-bench")
def test_a_quick_run_of_a_small_model(tmp_path: Path) -> None:
    options = ["--quick", "--layers", "1", "--output", str(tmp_path)]
    command = [sys.executable, "-m", "benchmarks", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [path] = tmp_path.glob("*.json")
    results = json.loads(path.read_text())
    assert {"LitServe, transformers", "float32", "TorchServe, no model"} <= results["http"][
        "engines"
    ].keys()
    assert results["stages"]["float32"]["1"]["forward"] > 0
    assert {each.name for each in tmp_path.glob("*.svg")} == {
        "bench-throughput.svg",
        "bench-latency.svg",
        "bench-forward.svg",
    }
    assert "HTTP requests per second" in done.stdout
