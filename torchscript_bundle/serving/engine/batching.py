"""Rows of different lengths -> few padded batches, each as narrow as it can be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import torch

from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.engine.costs import USUAL, CostModel, Costs
from torchscript_bundle.serving.text.tokenizer import Row

#: What a padding token costs beyond the time that it takes, in tokens. Near the fastest cut, others
#: are hardly slower: this price halves padding, and its memory, for at most 2% of the time.
PADDING_PRICE = 1.5


@dataclass(frozen=True)
class Tokens:
    """What passes took in.

    Attributes:
        computed: tokens, padding included.
        real: tokens of texts.
    """

    computed: int = 0
    real: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.computed + other.computed, self.real + other.real)

    def __sub__(self, other: Tokens) -> Tokens:
        return Tokens(self.computed - other.computed, self.real - other.real)


class TokenCount:
    """Adds up what passes take in."""

    def __init__(self) -> None:
        self.total = Tokens()

    def add(self, tokens: Tokens) -> None:
        """Counts a pass."""
        self.total += tokens


def to_max_length(bundle: Bundle) -> Bundle:
    """The same module, taken to hold at its greatest length alone, so that all rows run at it."""
    return replace(bundle, min_length=bundle.max_length, traced_lengths=(bundle.max_length,))


#: The config's `padding` -> what is made of a bundle for it.
PADDINGS: dict[str, Callable[[Bundle], Bundle]] = {
    "longest": lambda bundle: bundle,
    "max_length": to_max_length,
}


def padded_length(length: int, bundle: Bundle) -> int:
    """Length at which a row of `length` tokens runs, alone.

    Raises:
        ValueError: no verified length holds the row.
    """
    if length > bundle.max_length:
        raise ValueError(f"{length} tokens, at most {bundle.max_length} were verified")
    if bundle.reads_padding:
        return length
    if bundle.dynamic_length:
        return max(length, bundle.min_length)
    return next(traced for traced in bundle.traced_lengths if traced >= length)


def plan_batches(
    lengths: Sequence[int], bundle: Bundle, max_rows: int, costs: CostModel = USUAL
) -> list[list[int]]:
    """Splits rows into the batches that take the least time; returns the rows' indices.

    Rows are sorted by length, so that short texts never pay for a long one. A static artifact's
    batches hold rows of one traced length, those of a module that reads padding rows of one length;
    an artifact whose batch is static runs row by row.

    Args:
        lengths: tokens of each row.
        bundle: says what the module takes.
        max_rows: most rows of a batch.
        costs: what a pass costs, where rows of any length may share it.
    """
    rows = max_rows if bundle.dynamic_batch else 1
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    if bundle.mixes_lengths:
        padded = [padded_length(lengths[index], bundle) for index in order]
        ends = cut(padded, costs, rows)
        return [order[start:end] for start, end in pairwise([0, *ends])]
    keyed = groupby(order, key=lambda index: padded_length(lengths[index], bundle))
    groups = [list(group) for _, group in keyed]
    return [group[at : at + rows] for group in groups for at in range(0, len(group), rows)]


def cut(lengths: Sequence[int], costs: Costs, max_rows: int) -> list[int]:
    """Cuts ascending lengths into runs that together cost least, padded to their last.

    The best cut of the first lengths is extended length by length (dynamic programming).

    Args:
        lengths: ascending.
        costs: what a run costs.
        max_rows: most lengths of a run.

    Returns:
        Where each run ends.
    """
    least, starts = [0.0], [0]
    for end, length in enumerate(lengths, start=1):
        totals = {
            start: least[start] + price(costs, end - start, length)
            for start in range(max(0, end - max_rows), end)
        }
        start = min(totals, key=totals.__getitem__)
        starts.append(start)
        least.append(totals[start])
    ends: list[int] = []
    end = len(lengths)
    while end > 0:
        ends.append(end)
        end = starts[end]
    return ends[::-1]


def price(costs: Costs, rows: int, length: int) -> float:
    """What a batch counts for: its cost, and its tokens again.

    All cuts have the same real tokens, so this is to pay for padding again.
    """
    return costs.of(rows, length) + PADDING_PRICE * rows * length


def pad_batch(rows: Sequence[Row], bundle: Bundle) -> tuple[torch.Tensor, ...]:
    """The module's arguments, in `bundle.inputs`' order, each int64 `[batch, length]`."""
    return pad_to(padded_length(max(len(row) for row in rows), bundle), rows, bundle)


def pad_to(length: int, rows: Sequence[Row], bundle: Bundle) -> tuple[torch.Tensor, ...]:
    """What `pad_batch` gives, at a length that holds every row."""
    padding = bundle.padding
    columns = {
        "input_ids": [pad(r.input_ids, length, padding.token_id, padding.side) for r in rows],
        "attention_mask": [pad([1] * len(r), length, 0, padding.side) for r in rows],
        "token_type_ids": [pad(r.type_ids, length, padding.type_id, padding.side) for r in rows],
    }
    return tuple(torch.tensor(columns[name], dtype=torch.int64) for name in bundle.inputs)


def pad(values: Sequence[int], length: int, fill: int, side: str) -> list[int]:
    """The values, and what fills the rest of so many on one side ("left" or "right")."""
    gap = [fill] * (length - len(values))
    return [*gap, *values] if side == "left" else [*values, *gap]
