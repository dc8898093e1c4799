"""torch says at every `torch.jit` call that TorchScript is deprecated; here it is hidden."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def accept_deprecation() -> Iterator[None]:
    """Hides the DeprecationWarning that torch 2.13 gives at every `torch.jit` call, and no other.

    Where artifacts are made, `jit/deprecation.py` does the same and logs it once.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.", DeprecationWarning)
        yield
