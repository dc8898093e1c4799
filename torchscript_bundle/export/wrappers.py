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

    Args:
        model: a transformers model with any head.
        inputs: the arguments to take, int64 `[batch, length]` each, in order.
        outputs: members of its ModelOutput to return, in order.
        fixed: further keyword arguments for every call.

    Raises:
        ValueError: the model does not take one of `inputs`; the message lists what it takes.
    """
    settled: dict[str, Any] = {"return_dict": True}
    if "use_cache" in inspect.signature(model.forward).parameters:
        settled["use_cache"] = False
    # FNet takes no mask; the exporter measures what padding does to an answer.
    unlisted = ("attention_mask",)
    return keep_arguments(
        model, inputs, fixed={**settled, **fixed}, outputs=outputs, unlisted=unlisted
    )
