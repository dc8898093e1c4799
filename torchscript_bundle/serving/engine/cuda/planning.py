"""Rows of different lengths -> batches, where a pass costs what its bucket costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.engine.batching import cut, padded_length
from torchscript_bundle.serving.engine.costs import CostModel
from torchscript_bundle.serving.engine.cuda.buckets import Shape
from torchscript_bundle.serving.engine.cuda.sizing import TokenLimit

#: More rows than twice this are cut in steps of several rows, so that planning stays short.
FINE = 64


@dataclass(frozen=True)
class BucketCosts:
    """What a pass costs on a card.

    Attributes:
        costs: what was measured.
        shape: rows and length of a batch -> those that it runs in.
        limit: what fits; a pass of several rows that does not has no finite price.
        step: how many rows count as one.
    """

    costs: CostModel
    shape: Callable[[int, int], Shape]
    limit: TokenLimit
    step: int = 1

    def of(self, rows: int, length: int) -> float:
        """The cost of one pass over `rows * step` texts of `length` tokens."""
        filled, length = self.shape(rows * self.step, length)
        if rows > 1 and filled * length > self.limit.tokens:
            return float("inf")
        return self.costs.of(filled, length)


def plan(
    lengths: Sequence[int],
    bundle: Bundle,
    max_rows: int,
    costs: CostModel,
    shape: Callable[[int, int], Shape],
    limit: TokenLimit,
) -> list[list[int]]:
    """Splits rows into batches, as `batching.plan_batches` does; returns the rows' indices.

    Args:
        lengths: tokens of each row.
        bundle: says what the module takes.
        max_rows: most rows of a batch.
        costs: what a pass costs, where rows of any length may share it.
        shape: rows and length of a batch -> those that it runs in.
        limit: how many tokens fit into a pass.
    """
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    most = max_rows if bundle.dynamic_batch else 1
    if bundle.mixes_lengths:
        step = _step(len(order), min(most, limit.rows(bundle.max_length, most)))
        blocks = [order[at : at + step] for at in range(0, len(order), step)]
        longest = [padded_length(lengths[block[-1]], bundle) for block in blocks]
        padded = [shape(1, length)[1] for length in longest]
        ends = cut(padded, BucketCosts(costs, shape, limit, step), most // step)
        return [order[start * step : end * step] for start, end in pairwise([0, *ends])]
    batches = []
    for length, group in groupby(order, key=lambda index: padded_length(lengths[index], bundle)):
        same, rows = list(group), limit.rows(length, most)
        batches += [same[at : at + rows] for at in range(0, len(same), rows)]
    return batches


def _step(rows: int, most: int) -> int:
    """A power of two, so that steps fill buckets; at most `most`."""
    step = 1
    while rows // step > 2 * FINE and 2 * step <= most:
        step *= 2
    return step
