"""Class names that a saved file can be read back with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def readable_names(module: torch.nn.Module) -> Iterator[None]:
    """Gives classes whose Python module has a name such as `remote.3f2a` one that loads again.

    transformers names the module of a model's own code after a digest. TorchScript writes the name
    into the saved file, and its parser refuses a part that starts with a digit.
    """
    kinds = {type(each) for each in module.modules()}
    names = {kind: kind.__module__ for kind in kinds if re.search(r"(^|\.)\d", kind.__module__)}
    for kind, name in names.items():
        kind.__module__ = re.sub(r"(^|\.)(?=\d)", r"\1_", name)
    try:
        yield
    finally:
        for kind, name in names.items():
            kind.__module__ = name
