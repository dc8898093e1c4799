"""Pad rows into batches, and separate a batch's outputs row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch

from torchscript_bundle.serving.artifact import Bundle, Output
from torchscript_bundle.serving.text.tokenizer import Row

#: A batch's outputs or one row's, in the order of `Bundle.outputs`.
Outputs = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Tokens:
    """The tokens of forward passes, and how many of them were no padding."""

    computed: int = 0
    real: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.computed + other.computed, self.real + other.real)

    def __sub__(self, other: Tokens) -> Tokens:
        return Tokens(self.computed - other.computed, self.real - other.real)


#: The config's `padding` -> the bundle of the same module that pads so.
PADDINGS: dict[str, Callable[[Bundle], Bundle]] = {
    "longest": lambda bundle: bundle,
    "max_length": lambda bundle: replace(
        bundle, min_length=bundle.max_length, traced_lengths=(bundle.max_length,)
    ),
}


def padded_length(length: int, bundle: Bundle) -> int:
    """Return the length at which a row runs alone; ValueError if no verified length holds it."""
    if length > bundle.max_length:
        raise ValueError(f"{length} tokens, at most {bundle.max_length} were verified")
    if bundle.reads_padding:
        return length
    if bundle.dynamic_length:
        return max(length, bundle.min_length)
    return next(traced for traced in bundle.traced_lengths if traced >= length)


def pad_batch(
    rows: Sequence[Row], bundle: Bundle, length: int | None = None
) -> tuple[torch.Tensor, ...]:
    """Return `bundle.inputs`, each int64 `[batch, length]`, by default at the shortest length."""
    size = length or padded_length(max(map(len, rows)), bundle)
    padding = bundle.padding
    columns = {
        "input_ids": [pad(row.input_ids, size, padding.token_id, padding.side) for row in rows],
        "attention_mask": [pad(_mask(row, padding.side), size, 0, padding.side) for row in rows],
        "pooling_mask": [pad(_pooled(row), size, 0, padding.side) for row in rows],
        "token_type_ids": [pad(row.type_ids, size, padding.type_id, padding.side) for row in rows],
    }
    return tuple(torch.tensor(columns[name], dtype=torch.int64) for name in bundle.inputs)


def _mask(row: Row, side: str) -> list[int]:
    return pad([1] * (len(row) - row.padding), len(row), 0, side)


def _pooled(row: Row) -> list[int]:
    """Return 1 for each token that a pooling takes: `[length]`."""
    left_out = min(row.unpooled, len(row))
    return [0] * left_out + [1] * (len(row) - left_out)


def pad(values: Sequence[int], length: int, fill: int, side: str) -> list[int]:
    """Fill values up to `length` on one side ("left" or "right")."""
    gap = [fill] * (length - len(values))
    return [*gap, *values] if side == "left" else [*values, *gap]


@dataclass(frozen=True)
class Collator:
    """Collates rows for one module, and separates its outputs, which `narrow` reduces."""

    bundle: Bundle
    device: torch.device
    narrow: Callable[[Row, Outputs], Outputs]

    def collate(self, rows: Sequence[Row]) -> tuple[torch.Tensor, ...]:
        """Return the module's arguments on its device, each int64 `[batch, length]`."""
        return tuple(each.to(self.device) for each in pad_batch(rows, self.bundle))

    def separate(self, outputs: Outputs, rows: Sequence[Row]) -> list[Outputs]:
        """Return the narrowed outputs of a batch's first rows, without padding."""
        pairs = zip(self.bundle.outputs, outputs, strict=True)
        by_output = [self._rows(spec, output, rows) for spec, output in pairs]
        by_row = zip(*by_output, strict=True)
        return [self.narrow(row, own) for row, own in zip(rows, by_row, strict=True)]

    def _rows(self, spec: Output, output: torch.Tensor, rows: Sequence[Row]) -> list[torch.Tensor]:
        """Return one output of each row."""
        if spec.special is not None:
            token = self.bundle.special_ids[spec.special]
            ends = list(accumulate((row.input_ids.count(token) for row in rows), initial=0))
            return [output[start:end] for start, end in pairwise(ends)]
        if not spec.per_token:
            return [output[at] for at in range(len(rows))]
        left = self.bundle.padding.side == "left"
        return [
            output[at][-len(row) :] if left else output[at][: len(row)]
            for at, row in enumerate(rows)
        ]
