"""Texts to send: sentences of the demo, in any length."""

from __future__ import annotations

import csv
import random

from benchmarks.texts import ROOT

REVIEWS = ROOT / "demo" / "reviews.csv"


def sentences() -> list[str]:
    """Return the sentences that the demo model is trained on."""
    with REVIEWS.open(encoding="utf-8", newline="") as file:
        return [row["text"] for row in csv.DictReader(file)]


def texts(count: int, words: int) -> list[str]:
    """Return different texts of about so many words, the same at every call."""
    chance = random.Random(0)
    known = sentences()
    found = []
    for _ in range(count):
        text: list[str] = []
        while len(text) < words:
            text += chance.choice(known).split()
        found.append(" ".join(text[:words]))
    return found
