"""Copies between host and card that the host does not wait for, as few as can be."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from torchscript_bundle.serving.engine.cuda.card import Card

#: One row's outputs, in the order of `Bundle.outputs`.
Outputs = tuple[torch.Tensor, ...]


def to_host(card: Card, arguments: Sequence[torch.Tensor]) -> torch.Tensor:
    """A module's arguments, each int64 `[batch, length]`, as one `[arguments, batch, length]`.

    It is in memory that the card copies from by itself, so that one copy brings them all.
    """
    host = card.host((len(arguments), *arguments[0].shape), torch.int64)
    return torch.stack(tuple(arguments), out=host)


def to_card(card: Card, host: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The arguments that `to_host` joined, on the card."""
    return host.to(card.device, non_blocking=True).unbind(0)


class Fetch:
    """Rows' outputs on their way to the host, in one copy for each dtype.

    The card's tensors may be written again at once: what is on the way is a copy of them.

    Args:
        card: where they are.
        rows: each row's outputs.
    """

    def __init__(self, card: Card, rows: Sequence[Outputs]) -> None:
        self._forms = [[(each.dtype, each.shape) for each in outputs] for outputs in rows]
        flat: dict[torch.dtype, list[torch.Tensor]] = {}
        for each in (each for outputs in rows for each in outputs):
            flat.setdefault(each.dtype, []).append(each.reshape(-1))
        self._hosts: dict[torch.dtype, torch.Tensor] = {}
        for dtype, pieces in flat.items():
            joined = torch.cat(pieces)
            host = card.host(joined.shape, dtype)
            self._hosts[dtype] = host.copy_(joined, non_blocking=True)

    def rows(self) -> list[Outputs]:
        """The rows' outputs on the host; to be called once the card has been waited for."""
        counts: dict[torch.dtype, list[int]] = {dtype: [] for dtype in self._hosts}
        for dtype, shape in (form for forms in self._forms for form in forms):
            counts[dtype].append(shape.numel())
        pieces = {dtype: iter(self._hosts[dtype].split(sizes)) for dtype, sizes in counts.items()}
        return [
            tuple(next(pieces[dtype]).view(shape) for dtype, shape in forms)
            for forms in self._forms
        ]
