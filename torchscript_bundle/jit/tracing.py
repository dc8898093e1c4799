"""Tracing with every tracer warning kept; saving and loading without deprecation noise."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.jit._trace import TracerWarning

Tensors = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Traced:
    """A traced module and what the tracer said about it.

    Attributes:
        module: takes and returns what the traced module did.
        warnings: each distinct tracer warning, as `file:line: message`.
    """

    module: torch.jit.ScriptModule
    warnings: tuple[str, ...]


@contextmanager
def accept_deprecation() -> Iterator[None]:
    """Hides the DeprecationWarning that torch 2.13 gives at every `torch.jit` call.

    TorchScript is frozen, not broken, and TorchServe's fleets run it: that choice is this
    project's, so telling it to each caller helps nobody. Every other warning passes.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.", DeprecationWarning)
        yield


def trace(module: torch.nn.Module, example: Tensors) -> Traced:
    """Traces `module` at the shapes of `example`.

    torch's own check (a second trace compared with the first) is off: `verify` compares with the
    eager module at many shapes, which says more.

    Raises:
        Exception: whatever the module or the tracer raises where it cannot be traced.
    """
    with (
        warnings.catch_warnings(record=True) as caught,
        accept_deprecation(),
        _readable_names(module),
        torch.no_grad(),
    ):
        warnings.simplefilter("always", TracerWarning)
        traced = torch.jit.trace(module, example, check_trace=False)
    said = dict.fromkeys(_describe(warning) for warning in caught if _is_tracer(warning))
    for warning in caught:
        # The tracer reads every property of a module, the deprecated ones too.
        if not issubclass(warning.category, (TracerWarning, FutureWarning)):
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return Traced(traced, tuple(said))


@contextmanager
def _readable_names(module: torch.nn.Module) -> Iterator[None]:
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


def _is_tracer(warning: warnings.WarningMessage) -> bool:
    return issubclass(warning.category, TracerWarning)


def _describe(warning: warnings.WarningMessage) -> str:
    message = " ".join(str(warning.message).split())
    return f"{Path(warning.filename).name}:{warning.lineno}: {message}"


def save(module: torch.jit.ScriptModule, path: Path) -> None:
    """Writes a ScriptModule; weights that several submodules share are written once."""
    with accept_deprecation():
        torch.jit.save(module, str(path))


def load(path: Path, device: torch.device) -> torch.jit.ScriptModule:
    """Reads a ScriptModule onto a device.

    Raises:
        RuntimeError: the file is not TorchScript, or needs operators that this torch lacks.
    """
    with accept_deprecation():
        module: torch.jit.ScriptModule = torch.jit.load(str(path), map_location=device)
    return module
