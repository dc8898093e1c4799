"""`python -m benchmarks [--quick] [--only PART ...]`: see docs/benchmarks.md."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import bounds, report, stages, starting, throughput
from benchmarks.archives import NotMade
from benchmarks.engines import ENGINES, PRECISIONS
from benchmarks.engines.bundle import make_bundle
from benchmarks.engines.lit import PYTHON
from benchmarks.load.wrk import LoadError, require_wrk
from benchmarks.machine_facts import describe, name_of
from benchmarks.model import LAYERS, make_checkpoint, weights_mb
from benchmarks.page import write_page
from benchmarks.say import say
from torchscript_bundle.server import ROOT, ServerError
from torchscript_bundle.server.machine import usable_cores

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        http_rounds: of all engines at all numbers of connections.
        seconds: connections -> seconds of each measurement.
        forward: arguments of `forward.py`.
        starts: of each precision.
        stage_texts: how many texts are sent to see their stages.
        parts: what is measured unless that is said.
    """

    http_rounds: int
    seconds: dict[int, int]
    forward: tuple[str, ...]
    starts: int
    stage_texts: int
    parts: tuple[str, ...]


PARTS = ("http", "forward", "starting", "stages", "agreement")
FULL = Size(3, throughput.SECONDS, ("--rounds", "9"), 3, 256, PARTS)
QUICK = Size(
    1,
    {1: 2, 4: 2, 16: 3},
    ("--rounds", "3", "--shapes", "1x16", "1x32", "8x32"),
    1,
    64,
    ("http", "forward", "stages"),
)


class Run:
    """One run of the benchmark.

    Args:
        size: how much is measured.
        layers: of the model.
    """

    def __init__(self, size: Size, layers: int) -> None:
        self._size = size
        self._layers = layers
        self._checkpoint = make_checkpoint(layers)

    def http(self) -> dict[str, Any]:
        """Throughput and latency of all servers."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            endpoints = {}
            for number, (name, make) in enumerate(ENGINES.items()):
                say(f"{name}: export (kept for the next run) and start")
                try:
                    engine = make(self._checkpoint)
                except NotMade as error:
                    say(f"{name}: left out: {error}")
                    continue
                own = folder / str(number)
                own.mkdir()
                endpoints[name] = engine.start(own)
                stack.callback(engine.stop)
            return throughput.measure(endpoints, self._size.http_rounds, self._size.seconds)

    def forward(self) -> dict[str, Any]:
        """One forward pass of all engines, in the benchmark's own environment."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "forward.json"
            sizes = ("--threads", str(usable_cores()), "--layers", str(self._layers))
            command = [str(PYTHON), str(HERE / "forward.py"), *sizes, *self._size.forward]
            done = subprocess.run([*command, "--json", str(path)], stdout=sys.stderr, check=False)
            if done.returncode != 0:
                raise LoadError("forward.py failed; what it said is above")
            return dict(json.loads(path.read_text()))

    def starting(self) -> dict[str, Any]:
        """Starts, memory and first requests of each precision."""
        found = {}
        for name, made in self._bundles():
            say(f"{name}: {self._size.starts} start(s)")
            weights = weights_mb(name, self._layers)
            found[name] = {**starting.measure(made, self._size.starts), "weights_mb": weights}
        return found

    def stages(self) -> dict[str, Any]:
        """Where a request's time goes, in each precision."""
        found = {}
        for name, made in self._bundles():
            say(f"{name}: stages")
            found[name] = stages.measure(made.archive, self._size.stage_texts)
        return found

    def agreement(self) -> dict[str, Any]:
        """What lower precisions do to the demo model's labels."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "quality.json"
            command = [sys.executable, "-W", "ignore", str(HERE / "quality.py")]
            done = subprocess.run([*command, "--json", str(path)], stdout=sys.stderr, check=False)
            if done.returncode != 0:
                raise LoadError("quality.py failed; what it said is above")
            return dict(json.loads(path.read_text()))

    def _bundles(self) -> list[tuple[str, Any]]:
        found = []
        for name in PRECISIONS:
            try:
                found.append((name, make_bundle(self._checkpoint, name)))
            except NotMade as error:
                say(f"{name}: left out: {error}")
        return found


def parse() -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few minutes, rougher figures")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART")
    parser.add_argument("--layers", type=int, default=LAYERS, help="fewer: to try the benchmark")
    parser.add_argument("--output", type=Path, help="folder for results and plots")
    return parser.parse_args()


def main() -> int:
    """Measures, prints tables, writes results and plots."""
    arguments = parse()
    size = QUICK if arguments.quick else FULL
    parts = arguments.only or size.parts
    # Ended from outside, it must not leave servers behind: an exception stops them.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("error: ended"))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ["TQDM_DISABLE"] = "1"
    started = time.monotonic()
    try:
        if "http" in parts:
            require_wrk()
        results = measure(size, parts, arguments.layers)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except LoadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    kept = bounds.bounds(results)
    results["bounds"] = bounds.as_dicts(kept)
    print("\n".join([*report.tables(results), bounds.show(kept)]))
    whole = set(parts) <= results.keys()
    shown = whole and parts == PARTS and not arguments.quick
    path = save(results, arguments.output, shown=shown)
    print(f"\n{path}, after {(time.monotonic() - started) / 60:.0f} minutes")
    return 0 if whole else 1


def measure(size: Size, parts: Sequence[str], layers: int) -> dict[str, Any]:
    """The results of some parts; one that fails is told and left out."""
    facts = describe()
    run = Run(size, layers)
    results: dict[str, Any] = {**facts, "quick": size is QUICK, "layers": layers}
    for part in parts:
        say(part)
        try:
            results[part] = getattr(run, part)()
        except (LoadError, NotMade, ServerError, subprocess.CalledProcessError) as error:
            # The other parts took minutes, and stand for themselves.
            print(f"error: {part}: {error}", file=sys.stderr)
    return results


def save(results: dict[str, Any], output: Path | None, *, shown: bool) -> Path:
    """Writes results and plots, and returns the results' path.

    Args:
        results: of the run.
        output: folder for all of them.
        shown: without such a folder, they go to where the documents show them, else aside.
    """
    shown = shown and output is None
    folder = output or (HERE / "results" if shown else ROOT / ".build" / "bench")
    plots = ROOT / "docs" if shown else folder
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name_of(results)}.json"
    path.write_text(json.dumps(results, indent=1) + "\n")
    command = [str(PYTHON), "-m", "benchmarks.plots", str(path), str(plots)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
    if shown:
        write_page(results, plots / "measured.md")
    return path


if __name__ == "__main__":
    sys.exit(main())
