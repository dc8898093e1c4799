"""The registries of modes are the only places that name one."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

import torchscript_bundle
from torchscript_bundle.export.modes import MODES

PACKAGE = Path(torchscript_bundle.__file__).parent
#: The two registries, the facts that a config is checked by without loading any model, and a kind
#: of model that is an encoder with a classifier.
REGISTRIES = {
    *("export/modes/__init__.py", "serving/modes/__init__.py", "export/tasks.py"),
    "export/kinds/setfit_folder.py",
}


@cache
def constants(path: Path) -> set[object]:
    """Return the constants of a file of Python."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.value for node in nodes if isinstance(node, ast.Constant)}


@pytest.mark.parametrize("mode", MODES)
def test_nothing_else_names_a_mode(mode: str) -> None:
    naming = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if mode in constants(path)
    }
    assert naming <= REGISTRIES
    assert len(naming) >= 2
