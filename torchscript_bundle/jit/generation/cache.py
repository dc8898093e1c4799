"""A key-value cache in memory that is reserved ahead.

A cache is a list of tensors, which traces, Python and C++ can pass around:

- `cache[0]`: int64 `[rows, length]`, the mask: 1 for a token, 0 for padding, on the left. So rows
  of different lengths are one batch.
- `cache[1]`: int64 `[rows, source_length]`, the encoder's mask; `[rows, 0]` without an encoder.
- `growing` buffers, float `[slots, heads, room, head_size]`: alternately keys and values, layer by
  layer. The first `rows` slots and the first `length` places of the room are in use. The rest is
  not initialised; a step writes its keys and values there.
- the encoder's keys and values, of which `source_length` places are in use.

TorchScript reads the annotations here, so they are not postponed.
"""

import torch
from torch import Tensor


def more_room(needed: int) -> int:
    """Return how many places to reserve: half as many again, so that copies are rare."""
    return needed + max(64, needed // 2)


def enlarged(buffer: Tensor, rows: int, length: int, room: int) -> Tensor:
    """Return a buffer of `room` places with the first `rows` and `length` of the given one."""
    larger = buffer.new_empty([buffer.size(0), buffer.size(1), room, buffer.size(3)])
    larger[:rows, :, :length] = buffer[:rows, :, :length]
    return larger


def select_rows(cache: list[Tensor], rows: Tensor, growing: int) -> list[Tensor]:
    """Return the cache of `rows`, int64 `[n]`, in that order; the given one is used up.

    Rows that keep their place are not copied, and padding that all rows have is dropped.
    """
    where: list[int] = rows.tolist()
    in_place = True
    for to, source in enumerate(where):
        # A row that moves up must not be overwritten before.
        in_place = in_place and source >= to
    mask, source_mask = cache[0][rows], cache[1][rows]
    padding, width = mask.size(1), 0
    if len(where) > 0:
        padding = int((mask.cumsum(1) == 0).sum(1).min())
        width = source_mask.size(1) - int((source_mask.flip(1).cumsum(1) == 0).sum(1).min())
    selected = [mask[:, padding:], source_mask[:, :width]]
    for index, buffer in enumerate(cache[2:]):
        used = cache[0].size(1) if index < growing else width
        if in_place:
            for to, source in enumerate(where):
                if source != to:
                    buffer[to, :, :used] = buffer[source, :, :used]
        else:
            buffer = buffer[rows]
        selected.append(buffer[:, :, padding:] if index < growing else buffer[:, :, :width])
    return selected


def merge(first: list[Tensor], second: list[Tensor], growing: int) -> list[Tensor]:
    """Return one cache with the rows of both; the given ones are used up.

    The second is copied into the first if that has room for it, else both into a larger one.
    """
    ours, theirs = first[0].size(0), second[0].size(0)
    length = max(first[0].size(1), second[0].size(1))
    width = max(first[1].size(1), second[1].size(1))
    mask = first[0].new_zeros([ours + theirs, length])
    mask[:ours, length - first[0].size(1) :] = first[0]
    mask[ours:, length - second[0].size(1) :] = second[0]
    source_mask = first[1].new_zeros([ours + theirs, width])
    source_mask[:ours, : first[1].size(1)] = first[1]
    source_mask[ours:, : second[1].size(1)] = second[1]
    merged = [mask, source_mask]
    for index in range(len(first) - 2):
        mine, other = first[index + 2], second[index + 2]
        ends_together = index < growing
        used = first[0].size(1) if ends_together else first[1].size(1)
        places = length if ends_together else width
        fits = mine.size(0) >= ours + theirs and mine.size(2) >= places
        if not fits or (ends_together and used != places):
            room = more_room(places) if ends_together else places
            slots = _slots(ours + theirs)
            larger = mine.new_empty([slots, mine.size(1), room, mine.size(3)])
            _put(larger, 0, mine[:ours, :, :used], places, ends_together)
            mine = larger
        theirs_used = second[0].size(1) if ends_together else second[1].size(1)
        _put(mine, ours, other[:theirs, :, :theirs_used], places, ends_together)
        merged.append(mine)
    return merged


def _put(buffer: Tensor, row: int, values: Tensor, places: int, at_end: bool) -> None:
    """Write rows aligned at the end (or start). Padding is masked, but must be a number."""
    rows, used = values.size(0), values.size(2)
    start = places - used if at_end else 0
    buffer[row : row + rows, :, :start] = 0
    buffer[row : row + rows, :, start : start + used] = values
    buffer[row : row + rows, :, start + used : places] = 0


def _slots(rows: int) -> int:
    """Return the next power of two, so that few of the rows that join have the others copied."""
    slots = 1
    while slots < rows:
        slots *= 2
    return slots


def rows_left(finished: Tensor) -> Tensor:
    """Return int64 `[n]`: the unfinished rows, of which `select_rows` moves as few as possible."""
    left = int((~finished).sum())
    rows = torch.arange(left, device=finished.device)
    rows[finished[:left]] = (~finished[left:]).nonzero().squeeze(1) + left
    return rows
