"""What attention reads besides its input: which tokens are real, and keys and values of the past.

Types for both sides of a trace; see `types`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.jit._trace import is_tracing

from torchscript_bundle.jit.types import DataclassAsDict


@dataclass
class AttentionMask(DataclassAsDict):
    """Which tokens are real, and which are padding; or which tokens each query may see.

    Attributes:
        mask: bool `[batch, length]`, true for a real token; or `[batch, heads, queries, length]`,
            true for what a query may see, with 1 head or query for all of them. An int64 mask is
            converted.

    Raises:
        ValueError: the mask has another shape or dtype.
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
        """Return bool `[batch, heads, queries, length]`, for `scaled_dot_product_attention`.

        A mask `[batch, length]` gets one head and one query, which stand for all.
        """
        return self.mask[:, None, None, :] if self.mask.dim() == 2 else self.mask

    def int64(self) -> Tensor:
        """Return int64 `[batch, length]`, 1 for a real token: as transformers and tokenizers do.

        Raises:
            ValueError: the mask is one of queries, which transformers would add to its scores.
        """
        return self._of_tokens().long()

    def position_ids(self) -> Tensor:
        """Return int64 `[batch, length]`: real tokens counted from 0, wherever the padding is.

        Padding gets 0, a position that every model has. Source: transformers' GenerationMixin.

        Raises:
            ValueError: the mask is one of queries, which does not say what is padding.
        """
        return (self.int64().cumsum(-1) - 1).masked_fill(~self.mask, 0)

    def _of_tokens(self) -> Tensor:
        if self.mask.dim() == 2:
            return self.mask
        raise ValueError(
            "this needs a mask of tokens [batch, length], "
            f"not one of queries {list(self.mask.shape)}"
        )


@dataclass
class KeyValueCache(DataclassAsDict):
    """One layer's keys and values of the tokens so far.

    Attributes:
        key: float `[batch, heads, length, head_size]`; length 0 before the first token.
        value: the same; its head size may be another.

    Raises:
        ValueError: the shapes are not of one batch, heads and length.
    """

    key: Tensor
    value: Tensor

    def __post_init__(self) -> None:
        if is_tracing():
            return  # a comparison of traced sizes would be kept as a constant
        key, value = self.key.shape, self.value.shape
        if len(key) != 4 or len(value) != 4 or key[:3] != value[:3]:
            raise ValueError(
                "expected key and value [batch, heads, length, head_size], "
                f"not {list(key)} and {list(value)}"
            )
