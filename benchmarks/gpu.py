"""`python -m benchmarks.gpu`: precisions on a GPU, in process and over HTTP; see docs/gpu.md.

Without a GPU it measures the same on the CPU, so that the script can be tried anywhere.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from benchmarks.archives import Made, NotMade, make_archive
from benchmarks.client import post_in_turn
from benchmarks.engines.base import Endpoint
from benchmarks.engines.torchserve import TorchServe
from benchmarks.figures import median, percentile
from benchmarks.machine_facts import describe_briefly
from benchmarks.model import LAYERS, make_checkpoint
from benchmarks.say import say
from benchmarks.table import draw, number
from benchmarks.texts import FILE, load_texts
from torchscript_bundle.server import ROOT
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.engine.cuda.card_executor import CUDA_GRAPHS, CardExecutor
from torchscript_bundle.serving.engine.runtime import Runtime
from torchscript_bundle.serving.text.tokenizer import TextEncoder

PRECISIONS = ("float32", "float16", "bfloat16")
BATCHES, LENGTHS = (1, 8, 32, 128), (32, 128)
CONNECTIONS = (1, 4, 16, 64)

Forward = Callable[[int, int], object]


def make(checkpoint: Path, precision: str, device: str) -> Made:
    """The archive in a precision.

    Raises:
        NotMade: it cannot be had.
    """
    settings: dict[str, object] = {"device": device}
    if precision != "float32":
        settings |= {"precision": precision, "calibration_file": str(FILE)}
    return make_archive(f"{device}-{precision}", checkpoint, settings)


def bundle_forward(made: Made, device: torch.device, *, graphs: bool = True) -> Forward:
    """Rows through an artifact as a worker runs them, results back on the CPU."""
    os.environ[CUDA_GRAPHS] = str(int(graphs))
    bundle = Bundle.load(made.artifact)
    word = TextEncoder(made.artifact, bundle, truncate=True).encode("good")[0]
    runtime = Runtime(made.artifact, bundle, device, max(BATCHES))
    runtime.prepare(word, pack_weights=True)
    del os.environ[CUDA_GRAPHS]
    return lambda batch, length: runtime.run([word.stretched(length)] * batch)


def eager_forward(checkpoint: Path, precision: str, device: torch.device) -> Forward:
    """The same through transformers."""
    from transformers import AutoModelForSequenceClassification

    model: Any = AutoModelForSequenceClassification.from_pretrained(
        checkpoint, dtype=getattr(torch, precision)
    )
    model = model.to(device).eval()

    def run(batch: int, length: int) -> None:
        ids = torch.full((batch, length), 2204)
        with torch.inference_mode():
            model(input_ids=ids.to(device), attention_mask=torch.ones_like(ids).to(device))[0].cpu()

    return run


def measure_forward(engines: dict[str, Forward], rounds: int) -> dict[str, dict[str, float]]:
    """Shape -> engine -> median milliseconds, in interleaved rounds."""
    found = {}
    for batch, length in ((b, n) for n in LENGTHS for b in BATCHES):
        took: dict[str, list[float]] = {name: [] for name in engines}
        for number_of_round in range(rounds + 2):
            for name, run in engines.items():
                started = time.perf_counter()
                run(batch, length)
                if number_of_round > 1:
                    took[name].append((time.perf_counter() - started) * 1000)
        found[f"{batch}x{length}"] = {name: median(times) for name, times in took.items()}
        say(f"{batch}x{length}")
    return found


def measure_http(archives: dict[str, Made], seconds: float) -> dict[str, dict[str, Any]]:
    """Precision -> connections -> requests per second and percentiles, by Python's own client."""
    texts = load_texts()
    found: dict[str, dict[str, Any]] = {}
    for name, made in archives.items():
        say(f"{name}: serve")
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            served = TorchServe(made.archive)
            endpoint = served.start(folder)
            stack.callback(served.stop)
            found[name] = {
                str(count): _load(endpoint, count, texts, seconds) for count in CONNECTIONS
            }
    return found


def _load(endpoint: Endpoint, connections: int, texts: list[str], seconds: float) -> Any:
    """Sends all texts again and again until the time is over."""
    post_in_turn(endpoint, texts, connections)
    answers = []
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        answers += post_in_turn(endpoint, texts, connections)
    took = time.perf_counter() - started
    times = [each.ms for each in answers]
    ms = {"p50": median(times), "p99": percentile(times, 99)}
    return {"requests_per_second": len(answers) / took, "ms": ms}


def tables(results: dict[str, Any]) -> Iterator[str]:
    """The results to read."""
    shapes = results["forward"]
    names = list(next(iter(shapes.values())))
    rows = [[name, *(number(took[name]) for took in shapes.values())] for name in names]
    yield draw("One forward, ms at batch x length, results on the CPU", list(shapes), rows)
    rows = [
        [
            name,
            *(
                f"{number(each['requests_per_second'])} ({number(each['ms']['p50'])} ms)"
                for each in seen.values()
            ),
        ]
        for name, seen in results["http"].items()
    ]
    columns = [f"{count} conn." for count in CONNECTIONS]
    yield draw("HTTP requests per second (median latency), Python's client", columns, rows)


def main() -> int:
    """Prints tables, writes results."""
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description=__doc__)
    parser.add_argument("--layers", type=int, default=LAYERS, help="fewer: to try the benchmark")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # How many graphs there are, and what fits.
    logging.basicConfig(format="  ... %(message)s")
    logging.getLogger(CardExecutor.__module__).setLevel(logging.INFO)
    checkpoint = make_checkpoint(arguments.layers)
    archives: dict[str, Made] = {}
    for precision in PRECISIONS:
        say(f"{precision}: export (kept for the next run)")
        try:
            archives[precision] = make(checkpoint, precision, device.type)
        except NotMade as error:
            say(f"{precision}: left out: {error}")
    engines = {name: bundle_forward(made, device) for name, made in archives.items()}
    if device.type == "cuda":
        engines |= {
            f"{name}, no graphs": bundle_forward(made, device, graphs=False)
            for name, made in archives.items()
        }
    engines |= {f"eager {name}": eager_forward(checkpoint, name, device) for name in archives}
    forward = measure_forward(engines, arguments.rounds)
    del engines  # the servers need the memory
    http = measure_http(archives, arguments.seconds)
    results = {**describe_briefly(), "layers": arguments.layers, "forward": forward, "http": http}
    name = torch.cuda.get_device_name() if device.type == "cuda" else "no-gpu"
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / f"gpu-{name.lower().replace(' ', '-')}.json"
    path.write_text(json.dumps({"device": name, **results}, indent=1) + "\n")
    print("\n".join(tables(results)))
    print(f"\n{path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
