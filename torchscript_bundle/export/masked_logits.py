"""A masked language model's logits at masks alone, inside the module that is traced."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from torchscript_bundle.export.output_layer import split_output_layer
from torchscript_bundle.export.wrappers import wrap_model
from torchscript_bundle.jit.arguments import KeptArguments, keep_arguments


class MaskedLogits(torch.nn.Module):
    """Takes int64 `[batch, length]` by name, returns float `([masks, vocabulary],)`, row by row.

    `tokens` takes the inputs by name and returns `([batch, length, dim],)`; `layer` makes logits of
    its rows for masks, `[masks, dim]`.
    """

    def __init__(self, tokens: torch.nn.Module, layer: torch.nn.Module, mask_id: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.layer = layer
        self._mask_id = mask_id

    def forward(self, **inputs: torch.Tensor) -> tuple[torch.Tensor]:
        (tokens,) = self.tokens(**inputs)
        # Some tokenizers pad with the mask.
        masks = (inputs["input_ids"] == self._mask_id) & (inputs["attention_mask"] != 0)
        # Perceiver has logits for more tokens than a row holds.
        return (self.layer(tokens[:, : masks.shape[1]][masks]),)


def wrap_masked(
    model: torch.nn.Module, inputs: Sequence[str], mask_id: int, *, before_output_layer: bool
) -> KeptArguments:
    """Wrap a masked language model as `forward(*inputs) -> ([masks, vocabulary],)`.

    `before_output_layer` computes no logits of other tokens, where the model can be split.
    """
    split = split_output_layer(model, inputs) if before_output_layer else None
    if split is None:
        masked = MaskedLogits(wrap_model(model, inputs), torch.nn.Identity(), mask_id)
    else:
        masked = MaskedLogits(split.hidden, split.layer, mask_id)
    return keep_arguments(masked, inputs)
