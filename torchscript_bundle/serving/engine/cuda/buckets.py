"""Shapes that are captured, and which of them a batch runs in."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from torchscript_bundle.serving.artifact import Bundle

#: Rows and length of a batch.
Shape = tuple[int, int]

SHORTEST = 16
#: Most tokens of a pass that is captured. In longer ones kernels take longer than to start them.
MOST_GRAPH_TOKENS = 4096


def length_buckets(bundle: Bundle) -> tuple[int, ...]:
    """Lengths that batches are padded to, ascending; none where padding changes answers.

    Powers of two and what lies halfway between them, so that at most a third of a row is padding;
    the traced lengths, where only those run.
    """
    if bundle.reads_padding:
        return ()
    if not bundle.dynamic_length:
        return bundle.traced_lengths
    held = (max(length, bundle.min_length) for length in _steps(bundle.max_length))
    return tuple(sorted({min(length, bundle.max_length) for length in held}))


def _steps(until: int) -> Iterator[int]:
    """16, 24, 32, 48, 64, 96, and so on, to the first that is not below `until`."""
    step = SHORTEST
    while step < until:
        yield step
        yield step + step // 2
        step *= 2
    yield step


def row_buckets(bundle: Bundle, max_rows: int) -> tuple[int, ...]:
    """Numbers of rows that batches are filled up to, ascending: the powers of two."""
    if not bundle.dynamic_batch:
        return (1,)
    return tuple(2**power for power in range(max_rows.bit_length()))


def graph_shapes(bundle: Bundle, max_rows: int, max_tokens: int) -> list[Shape]:
    """Shapes to capture, those of the fewest tokens first: they gain most.

    Args:
        bundle: says what the module takes.
        max_rows: most rows of a pass.
        max_tokens: most tokens of a pass, padding included.
    """
    most = min(max_tokens, MOST_GRAPH_TOKENS)
    shapes = [
        (rows, length)
        for length in length_buckets(bundle)
        for rows in row_buckets(bundle, max_rows)
        if rows * length <= most
    ]
    return sorted(shapes, key=lambda shape: (shape[0] * shape[1], shape[0]))


def bucket(value: int, buckets: Sequence[int]) -> int | None:
    """The first of ascending buckets that holds a value."""
    at = bisect_left(buckets, value)
    return buckets[at] if at < len(buckets) else None
