"""The HTTP servers that are compared, each one file; `ENGINES` names them in the table's order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.engines.base import Engine
from benchmarks.engines.bundle import Bundle, recipe
from benchmarks.engines.floor import Floor
from benchmarks.engines.lit import Lit

RECIPE = "original recipe"
FLOOR = "TorchServe, no model"
#: What this bundle is measured in, as the config key `precision` says it.
PRECISIONS = ("float32", "bfloat16", "int8")

#: Makes an engine for a checkpoint's folder; raises NotMade where it cannot.
Maker = Callable[[Path], Engine]

ENGINES: dict[str, Maker] = {
    RECIPE: recipe,
    "LitServe, transformers": Lit,
    **{name: lambda folder, name=name: Bundle(folder, name) for name in PRECISIONS},  # type: ignore[misc]
    FLOOR: lambda _: Floor(),
}
