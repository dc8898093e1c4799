"""The texts are what the documents say of them."""

from __future__ import annotations

import csv
import re

import pytest

from benchmarks import texts
from torchscript_bundle.server import ROOT


def test_the_file_is_what_its_script_makes() -> None:
    """Words stand for tokens here: the demo model's tokenizer need not be there."""
    with (ROOT / "demo" / "reviews.csv").open(encoding="utf-8", newline="") as file:
        sentences = [row["text"] for row in csv.DictReader(file)]

    def count(text: str) -> int:
        return len(re.findall(r"\w+|[^\w\s]", text)) + 2

    chosen = texts.choose(sentences, count)
    lengths = sorted(map(count, chosen))
    assert len(chosen) == len(set(chosen)) == texts.COUNT
    assert chosen == texts.choose(sentences, count)
    assert (lengths[0], lengths[-1]) == (4, 88)
    assert abs(sum(lengths) / len(lengths) - 22) < 0.5


def test_lengths_are_mixed() -> None:
    if not texts.TOKENIZER.is_file():
        pytest.skip("the demo model is not there; `make test` makes it")
    shipped = texts.load_texts()
    lengths = texts.count_tokens(shipped)
    assert len(shipped) == texts.COUNT
    assert (min(lengths), max(lengths)) == (4, 88)
    assert round(sum(lengths) / len(lengths)) == 22
    assert all(text.isprintable() for text in shipped)
