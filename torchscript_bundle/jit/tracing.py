"""Recorded tracer warnings, and saving and loading of ScriptModules."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.jit._trace import TracerWarning

from torchscript_bundle.jit.deprecation import accept_deprecation

Tensors = tuple[torch.Tensor, ...]

#: Namespaces of the operators that come with torch.
OWN_NAMESPACES = {"aten", "prim", "prims", "quantized", "mkldnn", "onednn", "mkl"}


@contextmanager
def record_tracer_warnings() -> Iterator[list[str]]:
    """Collect the distinct TracerWarnings of a block, as `file:line: message`.

    FutureWarnings are hidden: the tracer reads all properties of a module, deprecated ones too.
    """
    lines: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("always", TracerWarning)
        show = warnings.showwarning

        def record(
            message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: Any
        ) -> None:
            said = f"{Path(filename).name}:{lineno}: {' '.join(str(message).split())}"
            if not issubclass(category, TracerWarning):
                show(message, category, filename, lineno, *rest)
            elif said not in lines:
                lines.append(said)

        warnings.showwarning = record  # type: ignore[assignment]
        yield lines


def foreign_operators(module: torch.jit.ScriptModule) -> list[str]:
    """Return operators that a Python package registers, without which the file does not load.

    torch crashes on a module that calls Python, so it must be loaded from a file.
    """
    with accept_deprecation():
        names: list[str] = torch.jit.export_opnames(module)
    return sorted(name for name in names if name.split("::")[0] not in OWN_NAMESPACES)


def save(module: torch.jit.ScriptModule, path: Path) -> None:
    """Write a ScriptModule; weights that several submodules share are written once.

    OSError if the disk is full; RuntimeError if the module calls Python.
    """
    with _written_in_memory(path) as place, accept_deprecation():
        torch.jit.save(module, place)


@contextmanager
def _written_in_memory(path: Path) -> Iterator[str]:
    """Yield a path for torch to write to; copy what it wrote to `path`, whole or not at all.

    torch ends the process if its writer meets a full disk: the destructor of PyTorchStreamWriter
    writes the end of the file, and what that raises nobody can catch (inline_container.cc). So it
    writes into memory. (A pipe takes no memory, but torch asks for the position in its file.)
    """
    fresh = path.with_name(f"{path.name}.new")
    memory = os.memfd_create(path.name)
    try:
        path.unlink(missing_ok=True)
        # torch names the folder in the file after the path that it is given.
        path.symlink_to(f"/proc/self/fd/{memory}")
        yield str(path)
        shutil.copyfile(path, fresh)
        fresh.replace(path)
    except BaseException:
        for each in (path, fresh):
            each.unlink(missing_ok=True)
        raise
    finally:
        os.close(memory)


def load(path: Path, device: torch.device) -> torch.jit.ScriptModule:
    """Read a ScriptModule onto a device; RuntimeError if this torch cannot."""
    with accept_deprecation():
        module: torch.jit.ScriptModule = torch.jit.load(str(path), map_location=device)
    return module
