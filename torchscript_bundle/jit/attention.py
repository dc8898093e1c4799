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
    """Which tokens are real, and which are padding.

    Attributes:
        mask: bool `[batch, length]`, true for a real token; an int64 mask is converted.

    Raises:
        ValueError: the mask has another shape or dtype.
    """

    mask: Tensor

    def __post_init__(self) -> None:
        if self.mask.dtype not in (torch.bool, torch.int64) or self.mask.dim() != 2:
            raise ValueError(
                "expected a bool or int64 mask [batch, length], "
                f"not {self.mask.dtype} {list(self.mask.shape)}"
            )
        self.mask = self.mask.bool()

    def int64(self) -> Tensor:
        """int64 `[batch, length]`, 1 for a real token: as transformers and tokenizers write it."""
        return self.mask.long()

    def position_ids(self) -> Tensor:
        """int64 `[batch, length]`: real tokens counted from 0, on whichever side the padding is.

        Padding gets 0, a position that every model has. Source: transformers' GenerationMixin.
        """
        return (self.int64().cumsum(-1) - 1).masked_fill(~self.mask, 0)


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
