"""Cache layers for transformers that use the caller's memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DummyLayer, DynamicLayer, DynamicSlidingWindowLayer

from torchscript_bundle.export.errors import ExportError


@dataclass(frozen=True)
class LayerKind:
    """A layer `keeps` keys and values or not; `window` counts its own token too, None for all."""

    keeps: bool = True
    window: int | None = None


def layer_kinds(cache: Cache) -> tuple[LayerKind, ...]:
    """Return the kind of each layer of transformers' own cache after a first token."""
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
    """Keeps the keys and values of the first tokens, without a copy."""

    def __init__(self, window: int | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.is_sliding = window is not None

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Return the given keys and values, float `[batch, heads, length, head_size]`."""
        self.keys, self.values = key_states, value_states
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True
        return key_states, value_states

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return length and offset of the result of `update`."""
        return query_length, 0


class WritingLayer(DynamicLayer):
    """Writes into given memory, float `[slots, heads, room, head_size]`.

    `start` places and `rows` slots are in use. While tracing, both are traced sizes.
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
        # A sliding layer reads only the window of the first new token.
        self._first = 0 if window is None else max(start - window + 1, 0)

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Write new keys and values; return those that the new tokens attend to."""
        end = self._start + key_states.shape[2]
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[: self._rows, :, self._start : end] = new
        key, value = (buffer[: self._rows, :, self._first : end] for buffer in self._buffers)
        return key, value

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return length and offset of the result of `update`."""
        return self._start + query_length - self._first, self._first

    def get_seq_length(self) -> int:
        """Return the number of tokens before the new ones."""
        return self._start


def new_cache(kinds: Sequence[LayerKind]) -> Cache:
    """Return a cache before the first token."""
    return Cache([NewLayer(kind.window) if kind.keeps else _no_layer() for kind in kinds])


def writing_cache(
    kinds: Sequence[LayerKind], buffers: Sequence[Tensor], start: int, rows: int
) -> Cache:
    """Return a cache over buffers: alternately keys and values of the layers that keep them."""
    pairs = iter(zip(buffers[::2], buffers[1::2], strict=True))
    return Cache(
        [
            WritingLayer(*next(pairs), start, rows, kind.window) if kind.keeps else _no_layer()
            for kind in kinds
        ]
    )


def cached_tensors(cache: Cache) -> list[Tensor]:
    """Return alternately keys and values of the layers that keep them."""
    layers: list[Any] = [layer for layer in cache.layers if not isinstance(layer, DummyLayer)]
    return [tensor for layer in layers for tensor in (layer.keys, layer.values)]


def _no_layer() -> Any:
    make: Any = DummyLayer  # its constructor is not annotated
    return make()
