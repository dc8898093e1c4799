"""Which rows share a pass, where one may run several batches, each padded to its own length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.engine.batching import padded_length, plan_batches, price
from torchscript_bundle.serving.engine.costs import USUAL, CostModel

#: How many batches may share a pass: each number is a graph of its own, made when a worker starts.
COUNTS = (2, 4, 8)
#: What one more batch costs in a pass, in tokens: its attention is started once more.
BATCH = 1.0

#: Indices of rows, by batch.
Pass = list[list[int]]


def useful_counts(bundle: Bundle, max_rows: int) -> tuple[int, ...]:
    """How many batches shall be able to share a pass.

    None where all rows make one batch, or where each length has a trace of its own.
    """
    mixed = bundle.dynamic_length and bundle.min_length < bundle.max_length
    one_trace = bundle.dynamic_length or len(bundle.traced_lengths) == 1
    several = one_trace and (mixed or not bundle.dynamic_batch)
    return tuple(count for count in COUNTS if several and count <= max_rows)


def plan_passes(
    lengths: Sequence[int],
    bundle: Bundle,
    max_rows: int,
    counts: Sequence[int] = (),
    costs: CostModel = USUAL,
) -> list[Pass]:
    """Splits rows into passes, and those into batches, which are padded to their longest row.

    Args:
        lengths: tokens of each row.
        bundle: says what the module takes.
        max_rows: most rows of a pass.
        counts: of batches that a pass may have, besides one; ascending.
        costs: what a pass costs.
    """
    if counts and bundle.dynamic_batch and bundle.mixes_lengths:
        return _mixed_passes(lengths, bundle, max_rows, counts, costs)
    batches = plan_batches(lengths, bundle, max_rows, costs)
    return _full_passes(batches, max_rows, counts)


def _mixed_passes(
    lengths: Sequence[int], bundle: Bundle, max_rows: int, counts: Sequence[int], costs: CostModel
) -> list[Pass]:
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    passes = []
    for at in range(0, len(order), max_rows):
        indices = order[at : at + max_rows]
        ends = share([padded_length(lengths[each], bundle) for each in indices], counts, costs)
        passes.append([indices[start:end] for start, end in pairwise([0, *ends])])
    return passes


def _full_passes(batches: Sequence[list[int]], max_rows: int, counts: Sequence[int]) -> list[Pass]:
    """Batches as they are, as many in a pass as it takes."""
    passes: list[Pass] = []
    at = 0
    while at < len(batches):
        fitting = (
            count
            for count in reversed(counts)
            if at + count <= len(batches) and sum(map(len, batches[at : at + count])) <= max_rows
        )
        end = at + next(fitting, 1)
        passes.append(list(batches[at:end]))
        at = end
    return passes


def share(lengths: Sequence[int], counts: Sequence[int], costs: CostModel) -> list[int]:
    """Cuts the rows of one pass into the batches that cost least.

    Args:
        lengths: ascending.
        counts: of batches that a pass may have, besides one.
        costs: what a token costs.

    Returns:
        Where each batch ends.
    """
    total = len(lengths)
    batch = replace(costs, call=BATCH)
    prices = [
        [price(batch, end - start, lengths[end - 1]) for end in range(start + 1, total + 1)]
        for start in range(total)
    ]
    allowed = [count for count in (1, *counts) if count <= total]
    # By the number of batches: what the first rows cost at least, and where their last one starts.
    least: list[dict[int, float]] = [{0: 0.0}]
    starts: list[dict[int, int]] = [{}]
    for _ in range(allowed[-1]):
        before, now, chosen = least[-1], {}, {}
        for end in range(len(least), total + 1):
            options = {at: before[at] + prices[at][end - at - 1] for at in before if at < end}
            chosen[end] = min(options, key=options.__getitem__)
            now[end] = options[chosen[end]]
        least.append(now)
        starts.append(chosen)
    ends = [total]
    for number in range(min(allowed, key=lambda count: least[count][total]), 1, -1):
        ends.append(starts[number][ends[-1]])
    return ends[::-1]
