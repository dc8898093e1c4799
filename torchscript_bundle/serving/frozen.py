"""A ScriptModule whose weights are constants, which compiles sooner."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch

from torchscript_bundle.serving.deprecation import accept_deprecation
from torchscript_bundle.serving.errors import last_line
from torchscript_bundle.serving.packed.errors import GRAPH_ERRORS

logger = logging.getLogger(__name__)

Forward = Callable[..., tuple[torch.Tensor, ...]]


@torch.no_grad()
def freeze(module: torch.jit.ScriptModule, examples: Sequence[tuple[torch.Tensor, ...]]) -> Forward:
    """The module's `forward`, frozen; the module itself where that would change an answer.

    Args:
        module: loaded, in eval mode.
        examples: arguments on which the outputs must be equal, bit by bit.
    """
    try:
        with accept_deprecation():
            frozen: Forward = torch.jit.freeze(module)
        equal = all(_equal(module(*inputs), frozen(*inputs)) for inputs in examples)
    except GRAPH_ERRORS as error:
        logger.info("the module is not frozen: %s", last_line(error))
        return module
    if not equal:
        logger.info("the module is not frozen: its answers would differ in the last digits")
        return module
    return frozen


def _equal(one: tuple[torch.Tensor, ...], other: tuple[torch.Tensor, ...]) -> bool:
    return all(torch.equal(*pair) for pair in zip(one, other, strict=True))
