"""Wrap transformers models for the tracer: positional tensors in, a tuple out."""

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
    """Wrap a model as `forward(*inputs) -> tuple`; a trace cannot return a ModelOutput.

    `inputs`, int64 `[batch, length]` each, and `outputs`, members of the ModelOutput, are in order;
    `fixed` are further keyword arguments for every call. ValueError lists what the model takes if
    it does not take one of `inputs`.
    """
    settled: dict[str, Any] = {"return_dict": True}
    if "use_cache" in inspect.signature(model.forward).parameters:
        settled["use_cache"] = False
    # FNet takes no mask; the exporter measures what padding does to an answer.
    unlisted = ("attention_mask",)
    return keep_arguments(
        model, inputs, fixed={**settled, **fixed}, outputs=outputs, unlisted=unlisted
    )
