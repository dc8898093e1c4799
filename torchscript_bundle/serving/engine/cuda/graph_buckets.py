"""Shapes to capture, the bucket in which a batch runs, and its cost there."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.engine.costs import CostModel, PassCosts
from torchscript_bundle.serving.engine.cuda.sizing import TokenLimit

#: Rows and length of a batch.
Shape = tuple[int, int]

SHORTEST = 16
#: Most tokens of a captured pass. In larger ones, kernels take longer than starting them.
MOST_GRAPH_TOKENS = 4096
#: With more rows than twice this, the planner moves several at a time, so that it stays quick.
FINE = 64


def length_buckets(bundle: Bundle) -> tuple[int, ...]:
    """Return the lengths of padded batches, ascending; none where no graph is to be had.

    That is where padding changes answers, and where an output has a row for each special token of a
    batch: a graph's shapes are fixed. Otherwise these are the traced lengths of a static artifact,
    or powers of two and the numbers halfway between, so that at most a third of a row is padding.
    """
    if bundle.reads_padding or any(output.special for output in bundle.outputs):
        return ()
    if not bundle.dynamic_length:
        return bundle.traced_lengths
    held = (max(length, bundle.min_length) for length in _steps(bundle.max_length))
    return tuple(sorted({min(length, bundle.max_length) for length in held}))


def _steps(until: int) -> Iterator[int]:
    """Yield 16, 24, 32, 48, 64, 96 and so on, to the first that is not below `until`."""
    step = SHORTEST
    while step < until:
        yield step
        yield step + step // 2
        step *= 2
    yield step


def row_buckets(bundle: Bundle, max_rows: int) -> tuple[int, ...]:
    """Return the row counts of filled batches, ascending powers of two."""
    if not bundle.dynamic_batch:
        return (1,)
    return tuple(2**power for power in range(max_rows.bit_length()))


def graph_shapes(bundle: Bundle, max_rows: int, max_tokens: int) -> list[Shape]:
    """Return the shapes to capture, those of the fewest tokens first: they gain most."""
    most = min(max_tokens, MOST_GRAPH_TOKENS)
    shapes = [
        (rows, length)
        for length in length_buckets(bundle)
        for rows in row_buckets(bundle, max_rows)
        if rows * length <= most
    ]
    return sorted(shapes, key=lambda shape: (shape[0] * shape[1], shape[0]))


def bucket(value: int, buckets: Sequence[int]) -> int | None:
    """Return the first of ascending buckets that holds a value, if any."""
    at = bisect_left(buckets, value)
    return buckets[at] if at < len(buckets) else None


@dataclass(frozen=True)
class BucketCosts(PassCosts):
    """Costs in the buckets of `shape`; several rows beyond `limit` have no finite cost."""

    measured: CostModel
    shape: Callable[[int, int], Shape]
    limit: TokenLimit

    def of(self, rows: int, length: int) -> float:
        filled, length = self.shape(rows, length)
        if rows > 1 and filled * length > self.limit.tokens:
            return float("inf")
        return self.measured.of(filled, length)

    def length(self, length: int) -> int:
        return self.shape(1, length)[1]

    def rows(self, length: int, most: int) -> int:
        return self.limit.rows(length, most)

    def step(self, rows: int, most: int) -> int:
        step = 1  # a power of two, so that steps fill buckets
        while rows // step > 2 * FINE and 2 * step <= most:
            step *= 2
        return step
