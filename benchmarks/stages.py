"""Where a request's time goes: HTTP, queue, decode, tokenize, pad, forward, encode.

The archive is packed once more with `timed_handler.py` around its handler; the rest comes from the
client's watch and TorchServe's own counter of the time that requests wait.
"""

from __future__ import annotations

import tempfile
import urllib.request
import zipfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from benchmarks.client import Timed, post_in_turn
from benchmarks.engines.base import Endpoint
from benchmarks.engines.torchserve import TorchServe
from benchmarks.figures import median
from benchmarks.texts import load_texts
from torchscript_bundle.export.archive_writer import writing_archive
from torchscript_bundle.server import DIRECT
from torchscript_bundle.sums import SUMS_FILE

HANDLER = "Transformer_handler_generalized.py"
TIMED = Path(__file__).resolve().with_name("timed_handler.py")
#: TorchServe's counters: microseconds that requests waited for a worker, and requests.
QUEUED, REQUESTS = "ts_queue_latency_microseconds", "ts_inference_requests_total"

CONNECTIONS = (1, 16)
#: In the order in which a request meets them; "worker" is what else the handler does.
STAGES = ("HTTP", "queue", "decode", "tokenize", "pad", "forward", "encode", "worker")


def pack_timed(archive: Path, folder: Path) -> Path:
    """A copy of an archive whose answers say what their stages took."""
    target = folder / archive.name
    with zipfile.ZipFile(archive) as source, writing_archive(target) as copy:
        for name in source.namelist():
            if name == SUMS_FILE:
                continue
            content = source.read(name)
            if name == HANDLER:
                copy.add("served_handler.py", content)
                content = TIMED.read_bytes()
            copy.add(name, content)
    return target


def measure(archive: Path, count: int) -> dict[str, dict[str, float]]:
    """Connections -> stage -> milliseconds, medians over the first texts (HTTP and queue: means).

    "total" is the client's, "added" what is not forward.
    """
    texts = load_texts()[:count]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        served = TorchServe(pack_timed(archive, folder))
        endpoint = served.start(folder)
        try:
            post_in_turn(endpoint, texts[:32], 4)
            return {str(each): _profile(endpoint, texts, each) for each in CONNECTIONS}
        finally:
            served.stop()


def _profile(endpoint: Endpoint, texts: Sequence[str], connections: int) -> dict[str, float]:
    before = _waited(endpoint)
    answers = post_in_turn(endpoint, texts, connections)
    after = _waited(endpoint)
    queue = (after[QUEUED] - before[QUEUED]) / (after[REQUESTS] - before[REQUESTS]) / 1000
    return summarize(answers, queue)


def summarize(answers: Sequence[Timed], queue: float) -> dict[str, float]:
    """Medians of the stages of answers.

    Args:
        answers: with Server-Timing headers.
        queue: milliseconds that they waited, on average.
    """
    rows = [{"total": each.ms, **read_timing(each.timing)} for each in answers]
    inside = [name for name in STAGES if name not in ("HTTP", "queue", "worker")]
    for row in rows:
        row["worker"] = row["handler"] - sum(row[name] for name in inside)
        row["added"] = row["total"] - row["forward"]
    # Of the wait only the mean is known, so what is left when it is taken away is a mean as well.
    outside = fmean(row["total"] - row["handler"] for row in rows) - queue
    names = ("total", "added", *inside, "worker")
    medians = {name: median(row[name] for row in rows) for name in names}
    return {"HTTP": outside, "queue": queue, **medians}


def read_timing(header: str) -> dict[str, float]:
    """Name -> milliseconds of a Server-Timing header."""
    pairs = (part.strip().partition(";dur=") for part in header.split(","))
    return {name: float(duration) for name, _, duration in pairs}


def _waited(endpoint: Endpoint) -> dict[str, float]:
    assert endpoint.metrics
    with DIRECT.open(urllib.request.Request(endpoint.metrics), timeout=30) as response:
        lines = response.read().decode().splitlines()
    found = {QUEUED: 0.0, REQUESTS: 0.0}
    for line in lines:
        name = line.partition("{")[0]
        if name in found:
            found[name] += float(line.split()[-1])
    return found
