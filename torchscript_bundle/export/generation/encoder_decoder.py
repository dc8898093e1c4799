"""An encoder-decoder, such as T5 or BART, as `Core`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, EncoderDecoderCache
from transformers.utils.generic import ModelOutput

from torchscript_bundle.export.generation.core import Core
from torchscript_bundle.export.generation.layers import (
    LayerKind,
    cached_tensors,
    new_cache,
    writing_cache,
)


class EncoderDecoder(Core):
    """Pads sources right and answers left; `start_id` is the decoder's first token."""

    def __init__(self, model: Any, start_id: int) -> None:
        super().__init__(model)
        self.start_id = start_id
        self.encoded = _output_class(model.get_encoder(), model.device)

    def prefill(
        self, input_ids: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        cache = EncoderDecoderCache(new_cache(self.kinds), new_cache(self._cross_kinds()))
        mask = torch.ones_like(attention_mask[:, :1])
        logits = self._logits(
            mask * self.start_id, mask, attention_mask, cache, input_ids=input_ids
        )
        own = cached_tensors(cache.self_attention_cache)
        cross = cached_tensors(cache.cross_attention_cache)
        return logits, mask, attention_mask, own + cross

    def step(
        self, tokens: Tensor, mask: Tensor, source_mask: Tensor, buffers: list[Tensor]
    ) -> Tensor:
        rows, width = source_mask.shape
        own = writing_cache(self.kinds, buffers[: self.growing], mask.shape[1] - 1, rows)
        cross = new_cache(self._cross_kinds())
        pairs = zip(buffers[self.growing :: 2], buffers[self.growing + 1 :: 2], strict=True)
        for index, (key, value) in enumerate(pairs):
            cross.update(key[:rows, :, :width], value[:rows, :, :width], index)
        cache = EncoderDecoderCache(own, cross)
        # Set here, because the tracer warns where transformers compares a length with 0.
        cache.is_updated = dict.fromkeys(range(len(self.kinds)), True)
        # The source's keys and values are in the cache: only the shape of the states is read.
        states = source_mask.unsqueeze(2).to(buffers[0].dtype)
        states = states.expand(-1, -1, self.config.hidden_size)
        encoded = self.encoded(last_hidden_state=states)
        with row_positions(self.model.get_decoder(), mask.sum(1) - 1):
            return self._logits(tokens, mask, source_mask, cache, encoder_outputs=encoded)

    def _logits(
        self, tokens: Tensor, mask: Tensor, source_mask: Tensor, cache: Cache, **source: Any
    ) -> Tensor:
        if "decoder_position_ids" in inspect.signature(self.model.forward).parameters:
            source["decoder_position_ids"] = mask.sum(1, keepdim=True) - 1
        output = self.model(
            attention_mask=source_mask,
            decoder_input_ids=tokens,
            decoder_attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            return_dict=True,
            **source,
        )
        logits: Tensor = output.logits[:, -1]
        return logits

    def _cross_kinds(self) -> tuple[LayerKind, ...]:
        """Return the kinds of cross-attention: every layer attends to the whole source."""
        return (LayerKind(),) * len(self.kinds)

    def _cache_of_one_token(self) -> Cache:
        cache = EncoderDecoderCache(DynamicCache(config=self.config), DynamicCache())
        token = torch.ones(1, 1, dtype=torch.int64, device=self.model.device)
        mask = torch.ones_like(token)
        self._logits(token, mask, mask, cache, input_ids=token)
        own: Cache = cache.self_attention_cache
        return own


def _output_class(encoder: Any, device: torch.device) -> type[ModelOutput]:
    """Return the class of an encoder's output, which may have more members than the states."""
    token = torch.ones(1, 1, dtype=torch.int64, device=device)
    with torch.no_grad():
        output = encoder(input_ids=token, attention_mask=torch.ones_like(token), return_dict=True)
    return type(output)


@contextmanager
def row_positions(decoder: Any, positions: Tensor) -> Iterator[None]:
    """Make a decoder's position embedding use `positions`, int64 `[batch]`, one for each row.

    Decoders take one position for the whole batch from the length of the cache. An embedding of
    another kind is left as it is (T5 has none); the proof shows whether that is right.
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
        # M2M100 numbers tokens from the id after the padding's.
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
