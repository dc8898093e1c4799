"""A decoder with its cache as plain tensors, in and out."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from torchscript_bundle.jit.attention import AttentionMask, KeyValueCache
from torchscript_bundle.jit.types import DataclassAsTuple


@dataclass
class DecoderOutput(DataclassAsTuple):
    """What a decoder answers.

    Attributes:
        logits: float `[batch, length, vocabulary]`, of the new tokens.
        cache: the cache with the new tokens, one entry a layer; None where none was given.
    """

    logits: Tensor
    cache: list[KeyValueCache] | None = None


class Decoder(torch.nn.Module):
    """A transformers decoder of attention layers, for `keep_arguments` and a trace.

    `keep_arguments(Decoder(model), ("input_ids", "attention_mask", "cache"))` takes a step;
    with `"position_ids"` for `"cache"`, it reads a whole text.

    Args:
        model: a causal LM whose layers each keep a key and a value, all of one length.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model
        self._takes_positions = "position_ids" in inspect.signature(model.forward).parameters

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Mapping[str, Tensor],
        position_ids: Tensor | None = None,
        cache: Sequence[Mapping[str, Tensor]] | None = None,
    ) -> DecoderOutput:
        """Logits of the new tokens; while tracing, a tuple `(logits[, ((key, value), ...)])`.

        Args:
            input_ids: int64 `[batch, length]`, the new tokens.
            attention_mask: `AttentionMask` of `[batch, cached + length]`.
            position_ids: int64 `[batch, length]`; counted off the mask where not given, so that
                padding on the left does not shift the text.
            cache: a `KeyValueCache` for each layer. Trace with a length above 0: such a trace takes
                an empty cache too, while one that saw an empty cache takes no other.
        """
        mask = AttentionMask.jit_rewrap(attention_mask)
        if position_ids is None:
            position_ids = mask.position_ids()[:, -input_ids.shape[1] :]
        past = None if cache is None else _past(cache)
        output = self.model(
            input_ids=input_ids,
            attention_mask=mask.int64(),
            past_key_values=past,
            use_cache=past is not None,
            return_dict=True,
            **({"position_ids": position_ids} if self._takes_positions else {}),
        )
        grown = None if past is None else _layers(past)
        return DecoderOutput(output.logits, grown).jit_unwrap()


def empty_cache(model: torch.nn.Module, batch: int) -> list[KeyValueCache]:
    """The cache before the first token: length 0, in the shapes and dtypes of the model's layers.

    The model runs on one token to show them, since their names differ from config to config.
    """
    past = DynamicCache()
    one_token = torch.zeros(1, 1, dtype=torch.long, device=next(model.parameters()).device)
    with torch.no_grad():
        model(input_ids=one_token, past_key_values=past, use_cache=True)
    return [
        KeyValueCache(_empty(layer.key, batch), _empty(layer.value, batch))
        for layer in _layers(past)
    ]


def _empty(tensor: Tensor, batch: int) -> Tensor:
    """`[1, heads, 1, head_size]` -> `[batch, heads, 0, head_size]`."""
    return tensor.new_empty(batch, tensor.shape[1], 0, tensor.shape[3])


def _past(cache: Sequence[Mapping[str, Tensor]]) -> DynamicCache:
    layers = [KeyValueCache.jit_rewrap(layer) for layer in cache]
    return DynamicCache([(layer.key, layer.value) for layer in layers])


def _layers(past: DynamicCache) -> list[KeyValueCache]:
    return [KeyValueCache(key, value) for key, value, _ in past]
