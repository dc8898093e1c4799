"""Pooling of token vectors to one for a text, and what follows, inside the module to trace."""

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


#: The input that says which tokens are pooled, where that is not every real one.
POOLING_MASK = "pooling_mask"


class Normalize(torch.nn.Module):
    """Gives vectors the length 1."""

    def forward(self, vector: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(vector, dim=-1)


class Truncate(torch.nn.Module):
    """Keeps the first numbers of vectors: `[batch, dim]` -> `[batch, size]`."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, vector: torch.Tensor) -> torch.Tensor:
        return vector[:, : self.size]


class SentenceHead(torch.nn.Module):
    """Pooling and the layers after it: float `[batch, length, dim]` and its mask -> `[batch, out]`.

    The last layer makes the text's vector, or its logits.
    """

    def __init__(self, pooling: str, layers: Sequence[torch.nn.Module]) -> None:
        super().__init__()
        self._pool = POOLINGS[pooling]
        self.layers = torch.nn.Sequential(*layers)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.layers(self._pool(tokens, mask))
        return output


class Pooled(torch.nn.Module):
    """A base model with its head: int64 `[batch, length]` by name -> float `([batch, out],)`.

    A `pooling_mask` among the inputs is 0 at tokens that only the model sees, such as a prompt's.
    `tokens` takes the inputs by name and returns `([batch, length, dim],)`.
    """

    def __init__(self, tokens: torch.nn.Module, head: SentenceHead) -> None:
        super().__init__()
        self.tokens, self.head = tokens, head

    def forward(self, **inputs: torch.Tensor) -> tuple[torch.Tensor]:
        mask = inputs.pop(POOLING_MASK, inputs["attention_mask"])
        (tokens,) = self.tokens(**inputs)
        return (self.head(tokens, mask),)


def wrap_pooled(model: torch.nn.Module, inputs: Sequence[str], head: SentenceHead) -> KeptArguments:
    """Wrap a base model as `forward(*inputs) -> ([batch, out],)`."""
    own = [name for name in inputs if name != POOLING_MASK]
    tokens = wrap_model(_without_pooler(model), own, outputs=("last_hidden_state",))
    return keep_arguments(Pooled(tokens, head), inputs)


def _without_pooler(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model, sharing weights, without a pooler: a checkpoint may lack the pooler's."""
    optional = "add_pooling_layer" in inspect.signature(type(model).__init__).parameters
    if not optional or getattr(model, "pooler", None) is None:
        return model
    bare = copy_sharing_tensors(model)
    bare.register_module("pooler", None)  # as for add_pooling_layer=False
    return bare
