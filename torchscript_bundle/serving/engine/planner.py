"""The planner: rows of different lengths -> batches and passes, at the least cost.

It sorts rows by length, so that short texts never pay for a long one, and cuts them by dynamic
programming: the best cut of the first rows is extended row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise

from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.engine.costs import USUAL, PassCosts
from torchscript_bundle.serving.engine.padding import padded_length

#: What a padding token costs beyond its time, in tokens. Near the fastest cut, others are hardly
#: slower: this price halves padding, and its memory, for at most 2% of the time.
PADDING_PRICE = 1.5
#: Numbers of batches that may be merged into one pass; each has a graph of its own.
MERGE_COUNTS = (2, 4, 8)
#: What one more batch costs in a pass, in tokens: its attention is started once more.
BATCH = 1.0

#: Indices of rows.
Batch = list[int]
#: Batches that are merged, each padded to its own length; mostly one.
Pass = list[Batch]


def useful_merge_counts(bundle: Bundle, max_rows: int) -> tuple[int, ...]:
    """Return useful batch counts: none if all rows make one batch, or each length has a trace."""
    mixed = bundle.dynamic_length and bundle.min_length < bundle.max_length
    one_trace = bundle.dynamic_length or len(bundle.traced_lengths) == 1
    several = one_trace and (mixed or not bundle.dynamic_batch)
    return tuple(count for count in MERGE_COUNTS if several and count <= max_rows)


def plan_passes(
    lengths: Sequence[int],
    bundle: Bundle,
    max_rows: int,
    costs: PassCosts = USUAL,
    merge_counts: Sequence[int] = (),
) -> list[Pass]:
    """Split rows of these lengths (tokens) into passes, each batch padded to its longest row.

    `merge_counts`, ascending, are the numbers of batches that a pass may have besides one.
    """
    if not (merge_counts and bundle.dynamic_batch and bundle.mixes_lengths):
        batches = plan_batches(lengths, bundle, max_rows, costs)
        return _merge(batches, max_rows, merge_counts)
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    passes = []
    for at in range(0, len(order), max_rows):
        indices = order[at : at + max_rows]
        ends = cut_pass([padded_length(lengths[i], bundle) for i in indices], costs, merge_counts)
        passes.append(_split(indices, ends))
    return passes


def plan_batches(
    lengths: Sequence[int], bundle: Bundle, max_rows: int, costs: PassCosts = USUAL
) -> list[Batch]:
    """Split rows into the batches that cost least.

    Batches of a static artifact hold rows of one traced length, those of a module that reads
    padding rows of one length; an artifact whose batch is static runs row by row.
    """
    most = max_rows if bundle.dynamic_batch else 1
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    if bundle.mixes_lengths:
        padded = [costs.length(padded_length(lengths[index], bundle)) for index in order]
        step = costs.step(len(order), costs.rows(bundle.max_length, most))
        return _split(order, cut(padded, costs, most, step))
    batches = []
    for length, group in groupby(order, key=lambda index: padded_length(lengths[index], bundle)):
        same, rows = list(group), costs.rows(length, most)
        batches += [same[at : at + rows] for at in range(0, len(same), rows)]
    return batches


def _split(indices: Batch, ends: Sequence[int]) -> list[Batch]:
    return [indices[start:end] for start, end in pairwise([0, *ends])]


def _merge(batches: Sequence[Batch], max_rows: int, merge_counts: Sequence[int]) -> list[Pass]:
    passes: list[Pass] = []
    at = 0
    while at < len(batches):
        fitting = (
            count
            for count in reversed(merge_counts)
            if at + count <= len(batches) and sum(map(len, batches[at : at + count])) <= max_rows
        )
        end = at + next(fitting, 1)
        passes.append(list(batches[at:end]))
        at = end
    return passes


def cut(lengths: Sequence[int], costs: PassCosts, max_rows: int, step: int = 1) -> list[int]:
    """Return the ends of the batches of ascending lengths that together cost least.

    Cuts are `step` rows apart, so that planning many rows stays quick.
    """
    places = [*range(0, len(lengths), step), len(lengths)]
    least, starts = [0.0], [0]
    for at, end in enumerate(places[1:], start=1):
        totals = {
            start: least[start] + price(costs, end - places[start], lengths[end - 1])
            for start in range(max(0, at - max(1, max_rows // step)), at)
        }
        start = min(totals, key=totals.__getitem__)
        starts.append(start)
        least.append(totals[start])
    ends: list[int] = []
    at = len(places) - 1
    while at > 0:
        ends.append(places[at])
        at = starts[at]
    return ends[::-1]


def cut_pass(lengths: Sequence[int], costs: PassCosts, merge_counts: Sequence[int]) -> list[int]:
    """Return the ends of the merged batches of one pass that together cost least.

    Lengths are ascending; there is one batch, or one of `merge_counts`.
    """
    total = len(lengths)
    # Merged batches pay once for their pass.
    extra = BATCH - costs.of(0, 0)
    prices = [
        [extra + price(costs, end - start, lengths[end - 1]) for end in range(start + 1, total + 1)]
        for start in range(total)
    ]
    allowed = [count for count in (1, *merge_counts) if count <= total]
    # By number of batches: the least cost of the first rows, and the start of their last batch.
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


def price(costs: PassCosts, rows: int, length: int) -> float:
    """Return a pass's cost plus PADDING_PRICE per token: cuts differ only in their padding."""
    return costs.of(rows, length) + PADDING_PRICE * rows * length
