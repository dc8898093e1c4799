"""Pooling of token vectors to one vector for a text, inside the module that is traced."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

import torch

from torchscript_bundle.export.wrappers import wrap_model
from torchscript_bundle.jit.arguments import KeptArguments, keep_arguments
from torchscript_bundle.jit.compilation import copy_sharing_tensors


def mean(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean of the real tokens: `[batch, length, dim]` -> `[batch, dim]`.

    Source: sentence_transformers' Pooling._forward_padded, as for the two below.
    """
    weights = mask.unsqueeze(-1).to(tokens.dtype)
    return (tokens * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)


def cls(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the vector of the first real token, with padding on either side."""
    return _pick(tokens, mask.argmax(dim=1))


def last(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the vector of the last real token, with padding on either side."""
    return _pick(tokens, mask.cumsum(dim=1).argmax(dim=1))


def _pick(tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Return one token of each row: `[batch, length, dim]`, `[batch]` -> `[batch, dim]`."""
    index = positions.view(-1, 1, 1).expand(-1, 1, tokens.shape[-1])
    return tokens.gather(1, index).squeeze(1)


POOLINGS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "mean": mean,
    "cls": cls,
    "last": last,
}


class Pooled(torch.nn.Module):
    """A base model with pooling: int64 `[batch, length]` by name -> float `([batch, dim],)`.

    `tokens` takes the inputs by name and returns `([batch, length, dim],)`.
    """

    def __init__(self, tokens: torch.nn.Module, pooling: str, *, normalize: bool) -> None:
        super().__init__()
        self.tokens = tokens
        self._pool = POOLINGS[pooling]
        self._normalize = normalize

    def forward(self, **inputs: torch.Tensor) -> tuple[torch.Tensor]:
        (tokens,) = self.tokens(**inputs)
        vector = self._pool(tokens, inputs["attention_mask"])
        return (torch.nn.functional.normalize(vector, dim=-1) if self._normalize else vector,)


def wrap_pooled(
    model: torch.nn.Module, inputs: Sequence[str], pooling: str, *, normalize: bool
) -> KeptArguments:
    """Wrap a base model as `forward(*inputs) -> ([batch, dim],)`."""
    tokens = wrap_model(_without_pooler(model), inputs, outputs=("last_hidden_state",))
    return keep_arguments(Pooled(tokens, pooling, normalize=normalize), inputs)


def _without_pooler(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model, sharing weights, without a pooler: a checkpoint may lack the pooler's."""
    optional = "add_pooling_layer" in inspect.signature(type(model).__init__).parameters
    if not optional or getattr(model, "pooler", None) is None:
        return model
    bare = copy_sharing_tensors(model)
    bare.register_module("pooler", None)  # as for add_pooling_layer=False
    return bare
