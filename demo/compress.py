"""Write `delta.safetensors`: what training changed of the weights that it started from, in 2.3 MB.

`python -m demo.compress` reads `model/`, which `demo/train.py` wrote, and fails if the model that
results is less accurate than the bar.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from numpy.typing import NDArray
from safetensors.numpy import load_file, save, save_file

from demo.checkpoint import FOLDER, METADATA
from demo.delta import DELTA, SIZE, STEPS, merge, pack, sha256
from demo.reviews import FILE as REVIEWS
from demo.reviews import read_reviews, split
from demo.start import WEIGHTS, Weights, encoder_folder, start_weights
from demo.train import accuracy, make_model

BAR = 0.92
#: Changes below this part of their row's root mean square are no step: that keeps most of normal
#: numbers, 81% of their variance.
THRESHOLD = 0.612


def compress(start: Weights, trained: Weights) -> dict[str, NDArray[Any]]:
    """Return steps and their sizes for matrices, in float16 what changed else."""
    delta: dict[str, NDArray[Any]] = {}
    for name, weight in trained.items():
        if np.array_equal(weight, start[name]):
            continue
        if weight.ndim != 2 or name.startswith("classifier."):
            delta[name] = weight.astype(np.float16)
            continue
        change = weight - start[name]
        steps, size = to_steps(change)
        delta[name + STEPS], delta[name + SIZE] = pack(steps), size
    return delta


def to_steps(change: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return steps of -1, 0 and 1, and for each row the mean of the changes that are a step."""
    extent = np.abs(change)
    usual = np.sqrt(np.square(change).mean(axis=1, keepdims=True))
    steps = np.sign(change) * (extent > THRESHOLD * usual)
    counts = np.maximum(np.abs(steps).sum(axis=1), 1)
    return steps, ((extent * np.abs(steps)).sum(axis=1) / counts).astype(np.float16)


def main() -> int:
    """Compress, measure and write; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default=FOLDER, type=Path, metavar="MODEL")
    model: Path = parser.parse_args().model
    encoder = encoder_folder()
    start = start_weights(encoder)
    delta = compress(start, load_file(model / WEIGHTS))
    reviews = split(read_reviews())
    merged = merge(start, delta)
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder)
    share = accuracy(make_model(encoder, merged), tokenizer, reviews.held_out)
    print(f"held-out accuracy {share:.3f} (bar {BAR:.2f})")
    if share < BAR:
        print("error: below the bar; train anew", file=sys.stderr)
        return 1
    report = json.loads((model / "training_report.json").read_text(encoding="utf-8"))
    metadata = {
        "encoder_sha256": sha256(encoder / WEIGHTS),
        "reviews_sha256": sha256(REVIEWS),
        "model_sha256": hashlib.sha256(save(merged, METADATA)).hexdigest(),
        "report": json.dumps({**report, "held_out_accuracy": share}),
    }
    save_file(delta, DELTA, metadata=metadata)
    print(f"saved to {DELTA}: {DELTA.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
