"""Take the output layer of a masked language model off, to compute only the logits that are needed.

The layer multiplies each token's hidden state by the whole vocabulary: at 512 tokens and 250,002
entries the logits of one text are half a gigabyte.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from torchscript_bundle.export.wrappers import wrap_model
from torchscript_bundle.jit.arguments import KeptArguments
from torchscript_bundle.jit.compilation import copy_sharing_tensors
from torchscript_bundle.jit.verify import Case, Shape, compare, last_line

logger = logging.getLogger(__name__)

#: Tokens of the text that a split is tried on.
TRIED = 8


@dataclass(frozen=True)
class SplitModel:
    """A model in two parts.

    Attributes:
        hidden: the model without its output layer: int64 `[batch, length]` each, in the order of
            the inputs -> `([batch, length, dim],)`.
        layer: the output layer, `[..., dim]` -> `[..., vocabulary]`.
    """

    hidden: KeptArguments
    layer: torch.nn.Linear


def split_output_layer(model: Any, inputs: Sequence[str]) -> SplitModel | None:
    """Split a model, sharing weights; None, and a line in the log, where that is not exact.

    Some models have no such layer (they multiply by their embeddings), others add to its output.
    """
    try:
        split = _split(model, inputs)
        reason = _objection(model, split, inputs)
    except Exception as error:  # the model's own code runs here
        reason = last_line(error)
    if not reason:
        return split
    logger.info("      the output layer cannot be taken off (%s): all logits are computed", reason)
    return None


def _split(model: Any, inputs: Sequence[str]) -> SplitModel:
    bare: Any = copy_sharing_tensors(model)
    layer = bare.get_output_embeddings()
    if not isinstance(layer, torch.nn.Linear):
        raise ValueError("it is no linear layer of its own")
    for parent in bare.modules():
        for name, child in parent._modules.items():
            if child is layer:
                parent._modules[name] = torch.nn.Identity()
    return SplitModel(wrap_model(bare, inputs), layer)


def _objection(model: Any, split: SplitModel, inputs: Sequence[str]) -> str:
    """Return why the parts do not give the model's logits for a text, or ""."""
    device = split.layer.weight.device
    row = torch.arange(TRIED, device=device)[None]
    columns = {"input_ids": row, "attention_mask": torch.ones_like(row)}
    tensors = tuple(columns.get(name, torch.zeros_like(row)) for name in inputs)
    with torch.no_grad():
        case = Case(Shape(1, TRIED), tensors, wrap_model(model, inputs)(*tensors))
    return compare(lambda *given: (split.layer(*split.hidden(*given)),), case).message
