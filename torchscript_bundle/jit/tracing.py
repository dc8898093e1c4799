"""What the tracer warns of, written down; saving and loading without deprecation noise."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import torch
from torch.jit._trace import TracerWarning

from torchscript_bundle.jit.deprecation import accept_deprecation

Tensors = tuple[torch.Tensor, ...]


@contextmanager
def record_tracer_warnings() -> Iterator[list[str]]:
    """Collects the TracerWarnings of a block instead of showing them.

    Every other warning passes, except FutureWarnings: the tracer reads every property of a module,
    the deprecated ones too.

    Yields:
        Each distinct tracer warning so far, as `file:line: message` in one line.
    """
    lines: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("always", TracerWarning)
        show = warnings.showwarning

        def record(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if not issubclass(category, TracerWarning):
                return show(message, category, filename, lineno, file, line)
            said = f"{Path(filename).name}:{lineno}: {' '.join(str(message).split())}"
            if said not in lines:
                lines.append(said)
            return None

        warnings.showwarning = record
        yield lines


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
