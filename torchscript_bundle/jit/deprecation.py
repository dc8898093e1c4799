"""TorchScript's DeprecationWarning, logged once instead of at every call."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)


@contextmanager
def accept_deprecation() -> Iterator[None]:
    """Hide the DeprecationWarning that torch 2.13 gives at every `torch.jit` call.

    TorchScript is frozen, not broken, and used here on purpose, which is logged once.
    """
    _log_once()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.", DeprecationWarning)
        yield


@functools.cache
def _log_once() -> None:
    logger.info("torch has deprecated TorchScript; it still runs, and is used here on purpose")
