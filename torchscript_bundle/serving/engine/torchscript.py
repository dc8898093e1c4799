"""TorchScript as a worker uses it: without its deprecation notice, and with frozen weights."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from torchscript_bundle.serving.engine.comparison import GRAPH_ERRORS
from torchscript_bundle.serving.errors import last_line


@contextmanager
def accept_deprecation() -> Iterator[None]:
    """Hides the DeprecationWarning that torch 2.13 gives at every `torch.jit` call, and no other.

    Where artifacts are made, `jit/deprecation.py` does the same and logs it once.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.", DeprecationWarning)
        yield


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
