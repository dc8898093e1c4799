"""What a start costs: seconds until the first answer, memory, first requests of each shape."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from benchmarks.archives import Made
from benchmarks.client import Client, post_in_turn
from benchmarks.engines.torchserve import endpoint
from benchmarks.figures import median
from benchmarks.ports import free_ports
from benchmarks.texts import load_texts
from torchscript_bundle.server import ROOT, Server

#: `(texts, tokens of each)` of requests; none is a shape that the one before it could stand for.
SHAPES = (
    *((1, length) for length in (23, 7, 64, 12, 128, 5, 88, 32, 16, 47)),
    *((8, 32), (4, 11), (8, 128), (3, 37), (8, 16)),
)
LATER = 7
#: One token of BERT's English vocabulary.
WORD = "good"
SPECIAL = 2
MB = 1e6


@contextmanager
def started(made: Made, workers: int = 1) -> Iterator[tuple[Server, float]]:
    """A server and the seconds that its start took, as `make serve` starts it."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        ports = asdict(free_ports())
        named = (f"--{name.replace('_', '-')}-port={port}" for name, port in ports.items())
        command = [
            *(sys.executable, "-m", "torchscript_bundle"),
            *("--run-dir", str(folder / "run"), "--log-dir", str(folder / "logs")),
            *("--model-store", str(made.archive.parent), "start", "--config", str(made.config)),
            *("--workers", str(workers), *named),
        ]
        server = Server(folder / "run", folder / "logs")
        before = time.perf_counter()
        try:
            subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            yield server, time.perf_counter() - before
        finally:
            server.stop()


def measure(made: Made, starts: int) -> dict[str, Any]:
    """Medians over starts; of each shape the median over starts, then the largest."""
    seconds, memory = [], []
    ratios: dict[str, list[tuple[float, float]]] = {}
    for _ in range(starts):
        with started(made) as (server, took):
            seconds.append(took)
            for shape, pair in first_requests(server).items():
                ratios.setdefault(shape, []).append(pair)
            memory.append(worker_memory(server))
    with started(made, workers=2) as (server, _):
        post_in_turn(endpoint(server), load_texts()[:64], 8)
        two = worker_memory(server)
    first = {shape: median(pair[0] for pair in pairs) for shape, pairs in ratios.items()}
    again = {shape: median(pair[1] for pair in pairs) for shape, pairs in ratios.items()}
    return {
        "first_answer_s": median(seconds),
        "worker_mb": median(memory),
        "two_workers_mb": two,
        "first_over_later": first,
        "second_over_later": again,
    }


def first_requests(server: Server) -> dict[str, tuple[float, float]]:
    """Shape -> the first request's time over the later ones' median, and the second's.

    The second's says how much of it is chance.
    """
    client = Client(endpoint(server))
    first = {shape: client.post(texts_of(*shape)).ms for shape in SHAPES}
    second = {shape: client.post(texts_of(*shape)).ms for shape in SHAPES}
    found = {}
    for shape in SHAPES:
        later = median(client.post(texts_of(*shape)).ms for _ in range(LATER))
        found[f"{shape[0]}x{shape[1]}"] = (first[shape] / later, second[shape] / later)
    client.close()
    return found


def texts_of(count: int, tokens: int) -> list[str]:
    """Texts of so many tokens each, special tokens included."""
    return [" ".join([WORD] * (tokens - SPECIAL))] * count


def worker_memory(server: Server) -> float:
    """Megabytes that the workers hold; what they share counts once (PSS)."""
    return sum(psutil.Process(pid).memory_full_info().pss for pid in server.worker_pids) / MB
