"""Traces for tests of what goes into and comes out of them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from torchscript_bundle.jit.deprecation import accept_deprecation
from torchscript_bundle.jit.tracing import load, record_tracer_warnings, save


def trace(module: torch.nn.Module, *example: Any) -> torch.jit.ScriptModule:
    """A trace whose warnings do not matter: the tests compare at other shapes."""
    with accept_deprecation(), record_tracer_warnings(), torch.no_grad():
        return torch.jit.trace(module, example, check_trace=False)


def saved(module: torch.jit.ScriptModule, folder: Path) -> torch.jit.ScriptModule:
    """What the file `module.pt` in `folder` gives back."""
    save(module, folder / "module.pt")
    return load(folder / "module.pt", torch.device("cpu"))


@dataclass
class TupleCache(tuple[torch.Tensor, ...]):
    """A dataclass that is a tuple, as curated-transformers 1.3 has it; `deepcopy` refuses it."""

    key: torch.Tensor
    value: torch.Tensor

    def __new__(cls, key: torch.Tensor, value: torch.Tensor) -> TupleCache:
        """Hold both as items too."""
        return tuple.__new__(cls, (key, value))


@dataclass
class DictMask(OrderedDict[str, torch.Tensor]):
    """A dataclass that is a dictionary, as curated-transformers 1.3 has it."""

    mask: torch.Tensor

    def __setattr__(self, name: str, value: torch.Tensor) -> None:
        """Set a key too."""
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"{name} is no tensor")
        super().__setattr__(name, value)
        self[name] = value
