"""The public names of the toolkit."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from torchscript_bundle import jit


def test_no_file_of_the_package_shadows_a_public_name() -> None:
    for found in pkgutil.iter_modules(jit.__path__):
        importlib.import_module(f"{jit.__name__}.{found.name}")
    assert {"compile", "script", "trace", "trace_module", "TensorSpec"} <= set(jit.__all__)
    for name in jit.__all__:
        assert not isinstance(getattr(jit, name), ModuleType)
