"""Transformers models as modules that can be traced: tensors in by position, a tuple out."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from torchscript_bundle.jit.arguments import KeptArguments, keep_arguments


def wrap_model(
    model: torch.nn.Module,
    inputs: Sequence[str],
    outputs: Sequence[str] = ("logits",),
    **fixed: Any,
) -> KeptArguments:
    """A model with any head, as `forward(*inputs) -> tuple`; a trace cannot return a ModelOutput.

    Args:
        model: a transformers model.
        inputs: the arguments to take, in order, such as `("input_ids", "attention_mask")`: int64
            `[batch, length]` each.
        outputs: members of its ModelOutput to return, in order; `("start_logits", "end_logits")`
            for question answering.
        fixed: further keyword arguments for every call, such as what an architecture needs to be
            traced.

    Raises:
        ValueError: the model does not take one of `inputs`; the message lists what it takes.
    """
    settled: dict[str, Any] = {"return_dict": True}
    if "use_cache" in inspect.signature(model.forward).parameters:
        settled["use_cache"] = False
    # FNet mixes its tokens without a mask; the exporter measures what padding does to an answer.
    unlisted = ("attention_mask",)
    return keep_arguments(
        model, inputs, fixed={**settled, **fixed}, outputs=outputs, unlisted=unlisted
    )
