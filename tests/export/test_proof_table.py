"""The proof of an artifact, printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tests.serving.helpers import change
from torchscript_bundle.__main__ import main
from torchscript_bundle.export.proof_table import print_proof
from torchscript_bundle.export.quality.decisions import Comparison
from torchscript_bundle.export.quality.gate import judge


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


def test_says_how_lower_precisions_did(artifact: Callable[[str], Path], tmp_path: Path) -> None:
    passed = judge("bfloat16", [(1, [Comparison(200, 199, (0.001,))])]).as_dict()
    refused = judge("float16", [(1, [Comparison(2, 1, (float("nan"),))])]).as_dict()
    quality = {
        "texts_from": "texts.txt",
        "lines_tried": 99,
        "lines_calibrated_on": 64,
        "held_apart": True,
        "tried": [passed, refused, {"precision": "int8", "not_tried": "too few texts"}],
        "milliseconds_a_text": {"float32": 9.0, "bfloat16": 5.0},
    }
    facts = {"quality": quality, "precision": "bfloat16"}
    text = printed(change(artifact("bert"), tmp_path, bundle=facts))
    assert "served in bfloat16: 99 lines of texts.txt tried beside float32, int8 cal" in text
    assert "int8 calibrated on 64 (others)" in text
    rows = [line.replace("│", " ").split() for line in text.splitlines()[-8:]]
    assert ["float32", "exact", "9.00"] in rows
    assert ["bfloat16", "200", "99.50%", "1.0e-03", "1.0e-03", "passed", "5.00"] in rows
    assert ["float16", "2", "50.00%", "not", "finite", "not", "finite", "refused"] in rows
    assert ["int8", "not", "tried:", "too", "few", "texts"] in rows
    assert "served in" not in printed(artifact("bert"))


def test_command_prints_it(
    artifact: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["torchscript_bundle", "proof", "--artifact", str(artifact("bert"))]
    monkeypatch.setattr(sys, "argv", arguments)
    assert main() == 0
    assert "holds at any batch, any length from 2 to 64" in capsys.readouterr().out


def test_command_says_where_there_is_no_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["torchscript_bundle", "proof", "--artifact", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert main() == 1
    assert f"error: {tmp_path / 'bundle.json'} is missing" in capsys.readouterr().err
