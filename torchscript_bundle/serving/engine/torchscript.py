"""TorchScript in a worker: without its deprecation notice, and with frozen weights."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from torchscript_bundle.serving.engine.comparison import GRAPH_ERRORS
from torchscript_bundle.serving.errors import last_line

logger = logging.getLogger(__name__)

#: TorchScript's profiling executor compiles on the first calls, and is fast from the third on.
WARM_UP_CALLS = 3
#: Takes the arguments that `Bundle.inputs` names, returns the outputs that `Bundle.outputs` names.
Forward = Callable[..., tuple[torch.Tensor, ...]]


@contextmanager
def accept_deprecation() -> Iterator[None]:
    """Hide torch 2.13's DeprecationWarning of every `torch.jit` call; export logs it once."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.", DeprecationWarning)
        yield


@torch.no_grad()
def freeze(module: torch.jit.ScriptModule, examples: Sequence[tuple[torch.Tensor, ...]]) -> Forward:
    """Return the module frozen; the module itself where that would change an output by a bit."""
    why = "its answers would differ in the last digits"
    try:
        with accept_deprecation():
            frozen: Forward = torch.jit.freeze(module)
        both = ((module(*inputs), frozen(*inputs)) for inputs in examples)
        if all(torch.equal(*each) for pair in both for each in zip(*pair, strict=True)):
            return frozen
    except GRAPH_ERRORS as error:
        why = last_line(error)
    logger.info("the module is not frozen: %s", why)
    return module
