"""Which rows a packed module is compared on."""

from __future__ import annotations

from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.tokenization import Row

#: Where any length runs, no longer than this: linear layers work token by token.
LONGEST = 64
ROWS = 3


def packing_rows(bundle: Bundle, max_rows: int, text: Row) -> list[list[Row]]:
    """Batches of one row and of several, at every traced length or at a short and a longer one.

    Args:
        bundle: says what the module takes.
        max_rows: most rows in one forward pass.
        text: a tokenized word, which is stretched.
    """
    if bundle.dynamic_length:
        shortest = max(bundle.min_length, len(text))
        lengths = sorted({shortest, max(shortest, min(bundle.max_length, LONGEST))})
    else:
        lengths = list(bundle.traced_lengths)
    batches = [[text.stretched(length)] for length in lengths]
    rows = min(max_rows, ROWS) if bundle.dynamic_batch else 1
    if rows > 1:
        batches += [_mixed(bundle, text, length, rows) for length in lengths]
    return batches


def _mixed(bundle: Bundle, text: Row, length: int, rows: int) -> list[Row]:
    """Rows of which the others are shorter, so that they are padded, unless that is never done."""
    shorter = length if bundle.reads_padding else max(1, length // 2)
    return [text.stretched(length), *[text.stretched(shorter)] * (rows - 1)]
