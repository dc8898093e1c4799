"""What a shape that a worker has not seen costs, against what it costs later.

The artifact is loaded and warmed up as a worker does it; then each of many shapes is run several
times. CPU time of one thread, so that other work on the machine counts as little as can be.
`python benchmarks/first_calls.py [ARTIFACT] [--plain]`
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from torchscript_bundle.serving.artifact import Bundle  # noqa: E402
from torchscript_bundle.serving.runtime import Runtime  # noqa: E402
from torchscript_bundle.serving.tokenization import TextEncoder  # noqa: E402

SHAPES = [(1, length) for length in (4, 9, 31, 64, 100, 150)]
SHAPES += [(2, 10), (2, 77), (3, 20), (4, 33), (5, 12), (6, 40), (7, 8), (8, 22), (8, 64)]
LATER = 5


def main() -> None:
    """Prints a line for each shape, and the worst ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artifact", nargs="?", type=Path, default=ROOT / "Transformer_model")
    parser.add_argument("--plain", action="store_true", help="freeze, and pack nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bundle = replace(Bundle.load(arguments.artifact), explanations=False)
    runtime = Runtime(arguments.artifact, bundle, torch.device("cpu"), max_rows=8)
    word = TextEncoder(arguments.artifact, bundle, truncate=True).encode("a")[0]
    if not arguments.plain:
        runtime.pack(word)
    runtime.freeze(word)
    runtime.warm_up(word)
    worst = 0.0
    for batch, length in SHAPES:
        rows = [word.stretched(min(length, bundle.max_length))] * batch
        milliseconds = []
        for _ in range(1 + LATER):
            started = time.process_time()
            runtime.run(rows)
            milliseconds.append(1000 * (time.process_time() - started))
        first, later = milliseconds[0], statistics.median(milliseconds[1:])
        worst = max(worst, first / later)
        print(f"{batch}x{length:<4} first {first:7.1f} ms, later {later:7.1f}: {first / later:.2f}")
    print(f"worst: {worst:.2f}")


if __name__ == "__main__":
    main()
