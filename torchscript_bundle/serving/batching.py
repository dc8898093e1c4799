"""Rows of different lengths -> few padded batches, each as narrow as it can be."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch

from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.tokenization import Row


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


def plan_batches(lengths: Sequence[int], bundle: Bundle, max_rows: int) -> list[list[int]]:
    """Splits rows into batches, given their lengths; returns the rows' indices.

    Rows are sorted by length, so that short texts never pay for a long one. A static artifact's
    batches hold rows of one traced length, those of a module that reads padding rows of one length;
    an artifact whose batch is static runs row by row.
    """
    rows = max_rows if bundle.dynamic_batch else 1
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    if bundle.dynamic_length and not bundle.reads_padding:
        groups = [order]
    else:
        keyed = groupby(order, key=lambda index: padded_length(lengths[index], bundle))
        groups = [list(group) for _, group in keyed]
    return [group[at : at + rows] for group in groups for at in range(0, len(group), rows)]


def pad_batch(rows: Sequence[Row], bundle: Bundle) -> tuple[torch.Tensor, ...]:
    """The module's arguments, in `bundle.inputs`' order, each int64 `[batch, length]`."""
    length = padded_length(max(len(row) for row in rows), bundle)
    padding = bundle.padding
    columns = {
        "input_ids": [_pad(r.input_ids, length, padding.token_id, padding.side) for r in rows],
        "attention_mask": [_pad([1] * len(r), length, 0, padding.side) for r in rows],
        "token_type_ids": [_pad(r.type_ids, length, padding.type_id, padding.side) for r in rows],
    }
    return tuple(torch.tensor(columns[name], dtype=torch.int64) for name in bundle.inputs)


def _pad(values: list[int], length: int, fill: int, side: str) -> list[int]:
    gap = [fill] * (length - len(values))
    return gap + values if side == "left" else values + gap
