"""The texts that every HTTP engine gets: `texts.txt`, a text a line, of mixed lengths.

`python -m benchmarks.texts` writes it anew, from the demo's sentences and a seed: lengths are drawn
from a log-normal distribution, as those of reviews and messages are, and each takes a sentence of
that many tokens. WordPiece tokens of BERT's English vocabulary, special tokens included.
"""

from __future__ import annotations

import csv
import math
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import NormalDist

from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[1]
FILE = Path(__file__).resolve().with_name("texts.txt")
TOKENIZER = ROOT / "demo" / "model" / "tokenizer.json"

COUNT = 256
SHORTEST, LONGEST = 4, 88
#: Of the logarithm of the lengths; with them the mean is 22.
MEDIAN, SPREAD = 18.25, 0.62


def load_texts(path: Path = FILE) -> list[str]:
    """The lines of the file, in its order."""
    return path.read_text(encoding="utf-8").splitlines()


def load_tokenizer() -> Tokenizer:
    """The demo model's, which neither cuts nor pads here."""
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def count_tokens(texts: Sequence[str]) -> list[int]:
    """Tokens of each text, special tokens included."""
    tokenizer = load_tokenizer()
    return [len(tokenizer.encode(text)) for text in texts]


def wanted_lengths() -> list[int]:
    """Evenly spaced quantiles of the distribution, cut to the range."""
    normal = NormalDist(math.log(MEDIAN), SPREAD)
    values = (math.exp(normal.inv_cdf((at + 0.5) / COUNT)) for at in range(COUNT))
    lengths = [min(LONGEST, max(SHORTEST, round(value))) for value in values]
    return [SHORTEST, *lengths[1:-1], LONGEST]


def choose(sentences: Sequence[str], count: Callable[[str], int]) -> list[str]:
    """A text for each wanted length, in random order; none twice."""
    generator = random.Random(0)
    by_length: dict[int, list[str]] = defaultdict(list)
    for sentence in generator.sample(sentences, len(sentences)):
        by_length[count(sentence)].append(sentence)
    texts = [_of_length(length, by_length, count) for length in wanted_lengths()]
    return generator.sample(texts, len(texts))


def _of_length(length: int, by_length: dict[int, list[str]], count: Callable[[str], int]) -> str:
    """A sentence, where none is left two that make as many tokens, or else the start of one."""
    if by_length[length]:
        return by_length[length].pop()
    special = count("")
    for first in sorted(by_length, reverse=True):
        second = length - first + special
        if first != second and by_length[first] and by_length.get(second):
            return f"{by_length[first].pop()} {by_length[second].pop()}"
    words = by_length[next(n for n in sorted(by_length) if n > length and by_length[n])].pop()
    return " ".join(words.replace(".", "").split()[: length - special])


def main() -> None:
    """Writes the file."""
    with (ROOT / "demo" / "reviews.csv").open(encoding="utf-8", newline="") as file:
        sentences = [row["text"] for row in csv.DictReader(file)]
    tokenizer = load_tokenizer()
    texts = choose(sentences, lambda text: len(tokenizer.encode(text)))
    FILE.write_text("\n".join(texts) + "\n", encoding="utf-8")
    lengths = count_tokens(texts)
    print(f"{FILE}: {len(texts)} texts of {min(lengths)} to {max(lengths)} tokens, ", end="")
    print(f"mean {sum(lengths) / len(lengths):.1f}")


if __name__ == "__main__":
    main()
