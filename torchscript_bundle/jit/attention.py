"""Attention masks and key-value caches, as types for both sides of a trace; see `types`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.jit._trace import is_tracing

from torchscript_bundle.jit.types import DataclassAsDict


@dataclass
class AttentionMask(DataclassAsDict):
    """A padding mask, or a mask of the tokens that each query attends to.

    Attributes:
        mask: bool `[batch, length]`, true for a token that is not padding; or
            `[batch, heads, queries, length]`, with 1 head or query for all. int64 is converted.
    """

    mask: Tensor

    def __post_init__(self) -> None:
        if self.mask.dtype not in (torch.bool, torch.int64) or self.mask.dim() not in (2, 4):
            raise ValueError(
                "expected a bool or int64 mask [batch, length] or [batch, heads, queries, length], "
                f"not {self.mask.dtype} {list(self.mask.shape)}"
            )
        self.mask = self.mask.bool()

    def by_query(self) -> Tensor:
        """Return bool `[batch, heads, queries, length]`, for `scaled_dot_product_attention`."""
        return self.mask[:, None, None, :] if self.mask.dim() == 2 else self.mask

    def int64(self) -> Tensor:
        """Return int64 `[batch, length]`, as transformers and tokenizers have it."""
        if self.mask.dim() == 2:
            return self.mask.long()
        raise ValueError(
            "this needs a mask of tokens [batch, length], "
            f"not one of queries {list(self.mask.shape)}"
        )

    def position_ids(self) -> Tensor:
        """Return int64 `[batch, length]`: tokens counted from 0, padding 0, as in transformers."""
        return (self.int64().cumsum(-1) - 1).masked_fill(~self.mask, 0)


@dataclass
class KeyValueCache(DataclassAsDict):
    """The keys and values of one layer, float `[batch, heads, length, head_size]`.

    The head size of the values may differ.
    """

    key: Tensor
    value: Tensor

    def __post_init__(self) -> None:
        if is_tracing():
            return  # the trace would keep the comparison as a constant
        key, value = self.key.shape, self.value.shape
        if len(key) != 4 or len(value) != 4 or key[:3] != value[:3]:
            raise ValueError(
                "expected key and value [batch, heads, length, head_size], "
                f"not {list(key)} and {list(value)}"
            )
