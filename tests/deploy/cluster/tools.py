"""Programs that check what is in deploy/ for clusters. `make check-deploy` brings them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from torchscript_bundle.server import ROOT

DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "torchscript-bundle"
#: Where `make check-deploy` puts helm and kubectl.
UNPACKED = ROOT / ".build" / "cluster"
#: Set by `make check-deploy`, under which a tool that is missing is an error.
REQUIRED = "CHECK_DEPLOY"

Document = dict[str, Any]


def missing(what: str) -> NoReturn:
    """Skip a test that needs `what`; fail it under `make check-deploy`."""
    said = f"needs {what}: run `make check-deploy`, which installs it or says how"
    if os.environ.get(REQUIRED):
        pytest.fail(said)
    pytest.skip(said)


def find(program: str) -> str:
    """Return the path of a program."""
    found = shutil.which(program, path=f"{UNPACKED}{os.pathsep}{os.environ['PATH']}")
    return found or missing(program)


def run(program: str, *arguments: str | Path, given: str = "", status: int = 0) -> str:
    """Run a program that must end with `status`; return all that it printed.

    `given` is its standard input.
    """
    command = [find(program), *map(str, arguments)]
    ended = subprocess.run(
        command, input=given, capture_output=True, text=True, check=False, cwd=ROOT
    )
    printed = ended.stdout + ended.stderr
    assert ended.returncode == status, f"{' '.join(command)}: {ended.returncode}\n{printed}"
    return printed


def render(values: Document) -> list[Document]:
    """Return the objects that the chart makes of values, for a release called reviews."""
    given = yaml.safe_dump(values)
    rendered = run("helm", "template", "reviews", CHART, "--values", "-", given=given)
    return [document for document in yaml.safe_load_all(rendered) if document]


def of_kind(documents: list[Document], kind: str) -> Document:
    """Return the one object of a kind."""
    (found,) = (document for document in documents if document["kind"] == kind)
    return found


def validate(document: Document, version: str) -> None:
    """Check an object of Kubernetes's own, strictly: names that it does not know are refused."""
    try:
        import kubernetes_validate
    except ImportError:
        missing("the package kubernetes-validate")
    kubernetes_validate.validate(document, version, strict=True)
