"""The traced half of a generator: reading texts, and reading one more token of each row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.generation.layers import LayerKind, layer_kinds
from torchscript_bundle.jit.verify import last_line


class Core(torch.nn.Module, ABC):
    """The two methods that `jit.generation.generator.Generator` calls, over a hinted model."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.config = model.config.get_text_config(decoder=True)
        try:
            with torch.no_grad():
                kept = self._cache_of_one_token()
        except Exception as error:  # a model's own code runs here
            raise ExportError(
                f"the model cannot be run with a cache of keys and values ({last_line(error)}), "
                "without which it would read its text again for each token; choose another"
            ) from error
        self.kinds: tuple[LayerKind, ...] = layer_kinds(kept)

    @property
    def growing(self) -> int:
        """The number of buffers that grow with the text."""
        return 2 * sum(kind.keeps for kind in self.kinds)

    @abstractmethod
    def prefill(
        self, input_ids: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """Read texts, int64 `[batch, length]`; return logits and the masks, keys and values."""

    @abstractmethod
    def step(
        self, tokens: Tensor, mask: Tensor, source_mask: Tensor, buffers: list[Tensor]
    ) -> Tensor:
        """Read one token of each row, write its keys and values, and return the next logits.

        `tokens` is int64 `[batch, 1]`, `mask` int64 `[batch, length]` with a 1 for the new token,
        `source_mask` int64 `[batch, source_length]`, a buffer float
        `[slots, heads, room, head_size]`.
        """

    @abstractmethod
    def _cache_of_one_token(self) -> Cache:
        """Return transformers' own cache of the growing layers, after one token."""
