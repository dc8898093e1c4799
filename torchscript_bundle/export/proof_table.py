"""The proof of an artifact, for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from torchscript_bundle.serving.artifact import Bundle


def print_proof(folder: Path, console: Console) -> None:
    """Prints what `bundle.json` says of the proof: what holds, what was refused, every case.

    Raises:
        ArtifactError: no artifact is there, or it is of another format.
    """
    bundle = Bundle.load(folder)
    proof = bundle.verification
    console.print(f"{bundle.source['model_name']} ({bundle.mode})", markup=False)
    for line in _summary(proof):
        console.print(f"  {line}", markup=False, soft_wrap=True)
    for table in _tables(proof):
        console.print(table)


def _summary(proof: dict[str, Any]) -> Iterator[str]:
    yield f"holds at {proof['holds']}"
    yield (
        f"largest difference {proof['worst_relative_difference']:.1g} of an output's scale "
        f"(allowed {proof['tolerance']:.0e})"
    )
    yield f"padding changes the model's own answers by {proof['padding_effect']:.1g} of their scale"
    if ignored := proof.get("settings_not_followed"):
        yield f"the model's own settings that are not followed: {', '.join(ignored)}"
    for claim, reason in proof["refused_claims"].items():
        yield f"refused: {claim}: {reason}"
    for warning in proof["tracer_warnings"]:
        yield f"the tracer warned: {warning.split('. ')[0]}"


def _tables(proof: dict[str, Any]) -> Iterator[Table]:
    """One table; a model that writes has one for each kind of trial."""
    for trial, cases in groupby(proof["cases"], key=lambda case: case.get("trial")):
        yield _table(trial, cases)


def _table(title: str | None, cases: Iterable[dict[str, Any]]) -> Table:
    names = ("batch", "length", "rows", "verdict", "absolute", "relative")
    table = Table(*names, title=title, title_justify="left")
    for case in cases:
        shape = case["shape"]
        rows = "padded" if shape["padded"] else "unpadded"
        spelled = ", special tokens" if shape["spelled"] else ""
        differences = [
            "\n".join(f"{output[key]:.1e}" for output in case["outputs"])
            for key in ("max_abs", "max_rel")
        ]
        sizes = (str(shape["batch"]), str(shape["length"]))
        table.add_row(*sizes, rows + spelled, case["verdict"], *differences)
    return table
