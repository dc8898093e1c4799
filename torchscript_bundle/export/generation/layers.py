"""The layers of a model's cache, with memory that the caller holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers.cache_utils import (
    Cache,
    DummyLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
)

from torchscript_bundle.export.errors import ExportError


@dataclass(frozen=True)
class LayerKind:
    """What a layer of a model keeps.

    Attributes:
        keeps: whether it has keys and values of its own; else it reads another layer's, or none.
        window: places that its attention looks back on, its own included; None for all.
    """

    keeps: bool = True
    window: int | None = None


def layer_kinds(cache: Cache) -> tuple[LayerKind, ...]:
    """What each layer keeps, read off transformers' own cache after a first token.

    Raises:
        ExportError: a layer keeps something else than keys and values.
    """
    kinds = []
    layers: list[Any] = cache.layers
    for layer in layers:
        if type(layer) not in (DummyLayer, DynamicLayer, DynamicSlidingWindowLayer):
            raise ExportError(
                f"the model keeps {type(layer).__name__} from token to token, and only the keys "
                "and values of attention can be kept in the file; choose another model"
            )
        keeps = layer.is_initialized and layer.keys is not None
        kinds.append(LayerKind(keeps, getattr(layer, "sliding_window", None)))
    if not any(kind.keeps for kind in kinds):
        raise ExportError(
            "the model keeps no keys and values of attention from token to token, and nothing "
            "else can be kept in the file; choose another model"
        )
    return tuple(kinds)


class NewLayer(DynamicLayer):
    """Takes what the first tokens give, with no copy of it."""

    def __init__(self, window: int | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.is_sliding = window is not None

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Gives back the keys and values, float `[batch, heads, length, head_size]`."""
        self.keys, self.values = key_states, value_states
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True
        return key_states, value_states

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of what `update` gives."""
        return query_length, 0


class WritingLayer(DynamicLayer):
    """Writes into given memory, and gives the part of it that is in use.

    While tracing, `start` and `rows` are sizes, so that the trace follows them.

    Args:
        keys, values: float `[slots, heads, room, head_size]`.
        start: places in use before the new tokens.
        rows: slots in use.
        window: as `LayerKind` has it.
    """

    def __init__(
        self, keys: Tensor, values: Tensor, start: int, rows: int, window: int | None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys, self.values = self._buffers = (keys, values)
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True
        self.is_sliding = window is not None
        self._start = start
        self._rows = rows
        # Of a sliding layer only what is within the window of the first new token is read.
        self._first = 0 if window is None else max(start - window + 1, 0)

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Keys and values that the new tokens may look at, the new ones included."""
        end = self._start + key_states.shape[2]
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[: self._rows, :, self._start : end] = new
        key, value = (buffer[: self._rows, :, self._first : end] for buffer in self._buffers)
        return key, value

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of what `update` gives."""
        return self._start + query_length - self._first, self._first

    def get_seq_length(self) -> int:
        """Tokens before the new ones."""
        return self._start


def new_cache(kinds: Sequence[LayerKind]) -> Cache:
    """A cache before the first token."""
    return Cache([NewLayer(kind.window) if kind.keeps else _no_layer() for kind in kinds])


def writing_cache(
    kinds: Sequence[LayerKind], buffers: Sequence[Tensor], start: int, rows: int
) -> Cache:
    """A cache that writes into the buffers: keys and values by turns, of the layers that keep."""
    pairs = iter(zip(buffers[::2], buffers[1::2], strict=True))
    return Cache(
        [
            WritingLayer(*next(pairs), start, rows, kind.window) if kind.keeps else _no_layer()
            for kind in kinds
        ]
    )


def cached_tensors(cache: Cache) -> list[Tensor]:
    """Keys and values by turns, of the layers that keep them."""
    layers: list[Any] = [layer for layer in cache.layers if not isinstance(layer, DummyLayer)]
    return [tensor for layer in layers for tensor in (layer.keys, layer.values)]


def _no_layer() -> Any:
    make: Any = DummyLayer  # its constructor is not annotated
    return make()
