"""Read the reviews beside this file, and split them for training."""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).resolve().with_name("reviews.csv")
LABELS = ("NEGATIVE", "POSITIVE")
SEED = 0
HELD_OUT = 0.2
CALIBRATION = 512


@dataclass(frozen=True)
class Review:
    """One line of reviews.csv."""

    label: int
    domain: str
    text: str


@dataclass(frozen=True)
class Split:
    """Reviews to train on, and those that are held out to measure accuracy."""

    training: list[Review]
    held_out: list[Review]


def read_reviews(path: Path = FILE) -> list[Review]:
    """Read a CSV file with the columns label, domain, text."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Review(LABELS.index(row["label"]), row["domain"], row["text"])
            for row in csv.DictReader(file)
        ]


def split(reviews: Sequence[Review]) -> Split:
    """Hold out the same share of every domain and label, always the same reviews."""
    generator = random.Random(SEED)
    strata: dict[tuple[str, int], list[Review]] = defaultdict(list)
    for review in reviews:
        strata[review.domain, review.label].append(review)
    parts = Split([], [])
    for key in sorted(strata):
        group = generator.sample(strata[key], len(strata[key]))
        size = round(len(group) * HELD_OUT)
        parts.held_out.extend(group[:size])
        parts.training.extend(group[size:])
    return parts


def write_held_out(path: Path, reviews: Sequence[Review]) -> None:
    """Write the held-out reviews, in random order, in the form of reviews.csv."""
    shuffled = random.Random(SEED).sample(list(reviews), len(reviews))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("label", "domain", "text"))
        writer.writerows((LABELS[r.label], r.domain, r.text) for r in shuffled)


def write_calibration(path: Path, reviews: Sequence[Review]) -> None:
    """Write texts to try a lower precision on, a line each: of those that were trained on."""
    chosen = random.Random(SEED).sample(list(reviews), CALIBRATION)
    path.write_text("".join(f"{review.text}\n" for review in chosen), encoding="utf-8")
