"""Make the demo model without training: where it starts, and what training changed.

`delta.safetensors` (`demo/compress.py` wrote it) moves each number of a matrix up, down or not at
all, by a step of its row's own size. It holds vectors and the head as they are.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file

from demo.checkpoint import FOLDER, write_checkpoint
from demo.reviews import FILE as REVIEWS
from demo.reviews import read_reviews, split
from demo.start import WEIGHTS, Weights, encoder_folder, start_weights

DELTA = Path(__file__).resolve().with_name("delta.safetensors")
#: Ends of names: the steps of a matrix, packed, and their size in each row.
STEPS, SIZE = ".steps", ".size"
#: A byte holds five digits of base 3.
DIGITS = np.array([1, 3, 9, 27, 81], np.uint8)


def sha256(path: Path) -> str:
    """Return the digest of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pack(steps: NDArray[Any]) -> NDArray[np.uint8]:
    """Pack steps of -1, 0 or 1 into bytes, five in each."""
    digits = (steps.ravel() + 1).astype(np.uint8)
    padded = np.pad(digits, (0, -digits.size % len(DIGITS)))
    packed: NDArray[np.uint8] = (padded.reshape(-1, len(DIGITS)) * DIGITS).sum(1, dtype=np.uint8)
    return packed


def unpack(packed: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the steps that were packed."""
    digits = packed[:, None] // DIGITS % 3
    return digits.ravel()[: math.prod(shape)].reshape(shape).astype(np.float32) - 1


def merge(start: Weights, delta: dict[str, NDArray[Any]]) -> Weights:
    """Return what training made of the start; the same bytes on every machine."""
    merged = dict(start)
    for name, array in delta.items():
        if name.endswith(STEPS):
            weight = name.removesuffix(STEPS)
            size = delta[weight + SIZE].astype(np.float32)
            merged[weight] = start[weight] + unpack(array, start[weight].shape) * size[:, None]
        elif not name.endswith(SIZE):
            merged[name] = array.astype(np.float32)
    return merged


def read_metadata(path: Path = DELTA) -> dict[str, str]:
    """Return the digests of what the delta belongs to, and the report of its training."""
    with safe_open(path, "np") as file:
        return dict(file.metadata())


def check(encoder: Path, reviews: Path = REVIEWS) -> None:
    """Exit with a sentence if the delta belongs to other weights or other reviews."""
    belongs = read_metadata()
    if sha256(encoder / WEIGHTS) != belongs["encoder_sha256"]:
        sys.exit(
            f"error: {encoder / WEIGHTS} is not the encoder that demo/{DELTA.name} was trained "
            "from; `make setup` installs that one, `make finetune` trains yours"
        )
    if sha256(reviews) != belongs["reviews_sha256"]:
        sys.exit(
            f"error: {reviews} has changed since demo/{DELTA.name} was trained, so reviews to hold "
            "out may have been trained on; `make finetune` trains on yours"
        )


def main() -> int:
    """Check, merge and write; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default=FOLDER, type=Path, metavar="DIR")
    output: Path = parser.parse_args().output
    encoder = encoder_folder()
    check(encoder)
    report = json.loads(read_metadata()["report"])
    weights = merge(start_weights(encoder), load_file(DELTA))
    write_checkpoint(output, encoder, weights, split(read_reviews()), report)
    print(f"{output}: held-out accuracy {report['held_out_accuracy']:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
