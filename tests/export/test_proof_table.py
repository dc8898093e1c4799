"""The proof of an artifact, printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from torchscript_bundle.__main__ import main
from torchscript_bundle.export.proof_table import print_proof


def printed(folder: Path) -> str:
    page = StringIO()
    print_proof(folder, Console(file=page, width=120))
    return page.getvalue()


def test_says_what_holds_what_was_refused_and_every_case(artifact: Callable[[str], Path]) -> None:
    folder = artifact("fixed_shape")
    proof = json.loads((folder / "bundle.json").read_text())["verification"]
    text = printed(folder)
    assert "holds at batch 1, length 16 or 32 or 64 only" in text
    assert "refused: any batch, any length: batch 1, length" in text
    assert "the trace keeps a size of its example" in text
    assert "the tracer warned: tiny.py:" in text
    rows = [line for line in text.splitlines() if line.startswith("│")]
    assert len(rows) == len(proof["cases"]) > 0
    assert all("exact" in row or "close" in row for row in rows)


def test_command_prints_it(
    artifact: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["torchscript_bundle", "proof", "--artifact", str(artifact("bert"))]
    monkeypatch.setattr(sys, "argv", arguments)
    assert main() == 0
    assert "holds at any batch, any length from 3 to 64" in capsys.readouterr().out


def test_command_says_where_there_is_no_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["torchscript_bundle", "proof", "--artifact", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert main() == 1
    assert f"error: {tmp_path / 'bundle.json'} is missing" in capsys.readouterr().err
