"""A position for each row, in decoders that count one for the whole batch.

The decoders of encoder-decoders take their positions from the length of the cache. Rows that began
at different times have the same cache length, and different positions.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor


@contextmanager
def row_positions(decoder: Any, positions: Tensor) -> Iterator[None]:
    """Lets a decoder's position embedding give one for each row, in a block.

    A decoder without such a module has relative positions (T5), and is left as it is. One whose
    module is of an unknown form is as well: the proof then shows whether that is right.

    Args:
        decoder: of an encoder-decoder, which is given one token for each row.
        positions: int64 `[batch]`, from 0.
    """
    embed: Any = getattr(decoder, "embed_positions", None)
    original = getattr(embed, "forward", None)
    if original is None:
        yield
        return
    signature = inspect.signature(original)

    def learned(*args: Any, **kwargs: Any) -> Tensor:
        bound = signature.bind(*args, **kwargs)
        bound.arguments["position_ids"] = positions
        embedded: Tensor = original(*bound.args, **bound.kwargs)
        return embedded.reshape(positions.shape[0], 1, embedded.shape[-1])

    def sinusoidal(*_: Any, **__: Any) -> Tensor:
        """M2M100 numbers tokens from the one after the padding's."""
        embedded: Tensor = embed.weights[positions + embed.padding_idx + 1].unsqueeze(1)
        return embedded

    if "position_ids" in signature.parameters:
        embed.forward = learned
    elif isinstance(getattr(embed, "weights", None), Tensor):
        embed.forward = sinusoidal
    else:
        yield
        return
    try:
        yield
    finally:
        del embed.forward
