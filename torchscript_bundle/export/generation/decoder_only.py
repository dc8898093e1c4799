"""A decoder-only model, such as GPT-2 or Llama, as `Core`."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache

from torchscript_bundle.export.generation.core import Core
from torchscript_bundle.export.generation.layers import cached_tensors, new_cache, writing_cache
from torchscript_bundle.jit.attention import AttentionMask


class DecoderOnly(Core):
    """Pads rows on the left, and counts their positions from the mask."""

    def prefill(
        self, input_ids: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        # Without an encoder, the second mask is [batch, 0].
        cache = new_cache(self.kinds)
        positions = AttentionMask(attention_mask).position_ids()
        logits = self._logits(input_ids, attention_mask, positions, cache)
        return logits, attention_mask, attention_mask[:, :0], cached_tensors(cache)

    def step(
        self, tokens: Tensor, mask: Tensor, source_mask: Tensor, buffers: list[Tensor]
    ) -> Tensor:
        cache = writing_cache(self.kinds, buffers, mask.shape[1] - 1, mask.shape[0])
        return self._logits(tokens, mask, mask.sum(1, keepdim=True) - 1, cache)

    def _logits(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Cache) -> Tensor:
        optional = {"position_ids": positions, "logits_to_keep": 1}
        taken = inspect.signature(self.model.forward).parameters
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            return_dict=True,
            **{name: value for name, value in optional.items() if name in taken},
        )
        logits: Tensor = output.logits[:, -1]
        return logits

    def _cache_of_one_token(self) -> Cache:
        cache = DynamicCache(config=self.config)
        token = torch.ones(1, 1, dtype=torch.int64, device=self.model.device)
        self.model(input_ids=token, past_key_values=cache, use_cache=True)
        return cache
