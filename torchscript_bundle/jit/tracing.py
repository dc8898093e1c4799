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
from torchscript_bundle.jit.saving import written_in_memory

Tensors = tuple[torch.Tensor, ...]

#: Namespaces of the operators that come with torch.
OWN_NAMESPACES = {"aten", "prim", "prims", "quantized", "mkldnn", "onednn", "mkl"}


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


def foreign_operators(module: torch.jit.ScriptModule) -> list[str]:
    """Operators of a module that torch alone does not have, such as `transformers::...`.

    They are registered by Python packages, so that the file loads only where those are imported.

    Args:
        module: one that was loaded. torch crashes here on one that calls Python, which no file can.
    """
    with accept_deprecation():
        names: list[str] = torch.jit.export_opnames(module)
    return sorted(name for name in names if name.split("::")[0] not in OWN_NAMESPACES)


def save(module: torch.jit.ScriptModule, path: Path) -> None:
    """Write a ScriptModule; weights that several submodules share are written once.

    Raises:
        OSError: the file cannot be written, such as on a full disk.
        RuntimeError: the module cannot be saved, such as one that calls Python.
    """
    with written_in_memory(path) as place, accept_deprecation():
        torch.jit.save(module, place)


def load(path: Path, device: torch.device) -> torch.jit.ScriptModule:
    """Reads a ScriptModule onto a device.

    Raises:
        RuntimeError: the file is not TorchScript, or needs operators that this torch lacks.
    """
    with accept_deprecation():
        module: torch.jit.ScriptModule = torch.jit.load(str(path), map_location=device)
    return module
