"""Asynchronous copies between host and card, as few as possible."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch

from torchscript_bundle.serving.engine.cuda.card import Card
from torchscript_bundle.serving.engine.padding import Outputs


def to_host(card: Card, arguments: Sequence[torch.Tensor]) -> torch.Tensor:
    """Join int64 `[batch, length]` arguments to `[arguments, batch, length]`, for one copy."""
    host = card.host((len(arguments), *arguments[0].shape), torch.int64)
    return torch.stack(tuple(arguments), out=host)


def to_card(card: Card, host: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the arguments that `to_host` joined, on the card."""
    return host.to(card.device, non_blocking=True).unbind(0)


class Fetch:
    """Rows' outputs on their way to the host, one copy per dtype; sources may be overwritten."""

    def __init__(self, card: Card, rows: Sequence[Outputs]) -> None:
        self._specs = [[(each.dtype, each.shape) for each in outputs] for outputs in rows]
        flat: dict[torch.dtype, list[torch.Tensor]] = {}
        for each in chain.from_iterable(rows):
            flat.setdefault(each.dtype, []).append(each.reshape(-1))
        self._hosts: dict[torch.dtype, torch.Tensor] = {}
        for dtype, pieces in flat.items():
            joined = torch.cat(pieces)
            host = card.host(joined.shape, dtype)
            self._hosts[dtype] = host.copy_(joined, non_blocking=True)

    def rows(self) -> list[Outputs]:
        """Return the rows' outputs on the host; call it after `Card.wait`."""
        counts: dict[torch.dtype, list[int]] = {dtype: [] for dtype in self._hosts}
        for dtype, shape in chain.from_iterable(self._specs):
            counts[dtype].append(shape.numel())
        pieces = {dtype: iter(self._hosts[dtype].split(sizes)) for dtype, sizes in counts.items()}
        return [
            tuple(next(pieces[dtype]).view(shape) for dtype, shape in specs)
            for specs in self._specs
        ]
