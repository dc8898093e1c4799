"""torch says at every `torch.jit` call that TorchScript is deprecated; here it is said once."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)


@contextmanager
def accept_deprecation() -> Iterator[None]:
    """Hides the DeprecationWarning that torch 2.13 gives at every `torch.jit` call.

    TorchScript is frozen, not broken, and TorchServe's fleets run it: that choice is this
    project's, so it is logged the first time in a process and not told to each caller. Every
    other warning passes.
    """
    _say_once()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.", DeprecationWarning)
        yield


@functools.cache
def _say_once() -> None:
    logger.info("torch has deprecated TorchScript; it still runs, and is used here on purpose")
