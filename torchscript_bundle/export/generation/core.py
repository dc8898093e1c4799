"""What is traced of a model that writes: reading a text, and reading one more token of each row."""

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
    """The two methods that `jit.generation.generator.Generator` stands on.

    Args:
        model: as transformers loads it, in eval mode, with the hint for its architecture.

    Raises:
        ExportError: the model cannot be run with a cache of keys and values.
    """

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
        """Number of buffers that grow with the text."""
        return 2 * sum(kind.keeps for kind in self.kinds)

    @abstractmethod
    def prefill(
        self, input_ids: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """Reads the texts, int64 `[batch, length]`.

        Returns:
            float `[batch, vocabulary]`, the logits of the first new token; the two masks of the
            cache, int64 `[batch, ...]`; its keys and values `[batch, heads, length, head_size]`.
        """

    @abstractmethod
    def step(
        self, tokens: Tensor, mask: Tensor, source_mask: Tensor, buffers: list[Tensor]
    ) -> Tensor:
        """Reads one more token of each row, and writes its keys and values into the buffers.

        Args:
            tokens: int64 `[batch, 1]`.
            mask: int64 `[batch, length]`, with a 1 for the new token.
            source_mask: int64 `[batch, source length]`.
            buffers: float `[slots, heads, room, head_size]`, with room for the new token.

        Returns:
            float `[batch, vocabulary]`.
        """

    @abstractmethod
    def _cache_of_one_token(self) -> Cache:
        """Transformers' own cache of the layers that grow, after one token."""
