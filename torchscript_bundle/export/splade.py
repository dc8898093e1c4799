"""SPLADE pooling of a masked language model's logits, inside the module that is traced.

A text's weight for a term of the vocabulary is the largest logit that any of its tokens gives the
term, or the sum over its tokens, after log(1 + relu(logit)). Source: sentence_transformers'
SpladePooling.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from torchscript_bundle.export.output_layer import SplitModel, split_output_layer
from torchscript_bundle.export.wrappers import wrap_model
from torchscript_bundle.jit.arguments import KeptArguments, keep_arguments
from torchscript_bundle.serving.modes.mode_options import SparseActivation, SparsePooling

#: Terms whose logits exist at a time. The product with more of them is no faster, and what follows
#: it is slower outside the CPU's caches.
BLOCK = 4096


class _Splade(torch.nn.Module):
    def __init__(self, pooling: SparsePooling, activation: SparseActivation) -> None:
        super().__init__()
        self._pooling = pooling
        self._activation = activation

    def _activate(self, positive: torch.Tensor) -> torch.Tensor:
        weights = positive.log1p()
        return weights.log1p() if self._activation == "log1p_relu" else weights


class PooledLogits(_Splade):
    """Pools all logits at once: int64 `[batch, length]` by name -> `([batch, vocabulary],)`.

    `logits` takes the inputs by name and returns `([batch, length, vocabulary],)`.
    """

    def __init__(
        self, logits: torch.nn.Module, pooling: SparsePooling, activation: SparseActivation
    ) -> None:
        super().__init__(pooling, activation)
        self.logits = logits

    def forward(self, **inputs: torch.Tensor) -> tuple[torch.Tensor]:
        (logits,) = self.logits(**inputs)
        weights = self._activate((logits * _mask(inputs, logits)).relu())
        return (weights.amax(dim=1) if self._pooling == "max" else weights.sum(dim=1),)


class PooledBlocks(_Splade):
    """Computes and pools the logits of a block of the vocabulary after the other.

    Each product has a relu of its own, with which packed weights fuse it; products of one input
    without one would be joined into a single product again.
    """

    def __init__(
        self, split: SplitModel, pooling: SparsePooling, activation: SparseActivation
    ) -> None:
        super().__init__(pooling, activation)
        self.hidden = split.hidden
        self.layer = split.layer

    def forward(self, **inputs: torch.Tensor) -> tuple[torch.Tensor]:
        (hidden,) = self.hidden(**inputs)
        mask = _mask(inputs, hidden)
        starts = range(0, self.layer.weight.shape[0], BLOCK)
        pooled = torch.cat([self._block(hidden, mask, start) for start in starts], dim=-1)
        # log1p grows with its argument: that of the largest is the largest.
        return (self._activate(pooled) if self._pooling == "max" else pooled,)

    def _block(self, hidden: torch.Tensor, mask: torch.Tensor, start: int) -> torch.Tensor:
        """Pool `[batch, length, dim]` for the terms from `start`: `[batch, terms]`."""
        terms = slice(start, start + BLOCK)
        bias = None if self.layer.bias is None else self.layer.bias[terms]
        logits = torch.nn.functional.linear(hidden, self.layer.weight[terms], bias)
        positive = logits.relu() * mask
        if self._pooling == "max":
            return positive.amax(dim=1)
        return self._activate(positive).sum(dim=1)


def _mask(inputs: dict[str, torch.Tensor], like: torch.Tensor) -> torch.Tensor:
    """Return 1 for real tokens and 0 for padding: `[batch, length, 1]`."""
    return inputs["attention_mask"].unsqueeze(-1).to(like.dtype)


def wrap_splade(
    model: torch.nn.Module,
    inputs: Sequence[str],
    pooling: SparsePooling,
    activation: SparseActivation,
    *,
    in_blocks: bool,
) -> KeptArguments:
    """Wrap a masked language model as `forward(*inputs) -> ([batch, vocabulary],)`.

    `in_blocks` never holds the logits of all terms, where the model can be split.
    """
    split = split_output_layer(model, inputs) if in_blocks else None
    pooled: torch.nn.Module
    if split is None:
        pooled = PooledLogits(wrap_model(model, inputs), pooling, activation)
    else:
        pooled = PooledBlocks(split, pooling, activation)
    return keep_arguments(pooled, inputs)
