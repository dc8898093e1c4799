"""Print the proof of an artifact."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from torchscript_bundle.serving.artifact import Bundle


def print_proof(folder: Path, console: Console) -> None:
    """Print what holds, what was refused, and every case."""
    bundle = Bundle.load(folder)
    proof = bundle.verification
    console.print(f"{bundle.source['model_name']} ({bundle.mode})", markup=False)
    for line in _summary(proof):
        console.print(f"  {line}", markup=False, soft_wrap=True)
    for table in _tables(proof):
        console.print(table)
    if bundle.quality:
        console.print(f"served in {bundle.precision}: {_material(bundle.quality)}", markup=False)
        console.print(_precisions(bundle.quality))


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
    if reason := proof.get("pairs_refused"):
        yield f"refused: two texts together: {reason}"
    for warning in proof["tracer_warnings"]:
        yield f"the tracer warned: {warning.split('. ')[0]}"


def _tables(proof: dict[str, Any]) -> Iterator[Table]:
    """Yield one table; a generator has one for each kind of trial."""
    for trial, cases in groupby(proof["cases"], key=lambda case: case.get("trial")):
        yield _table(trial, cases)


def _table(title: str | None, cases: Iterable[dict[str, Any]]) -> Table:
    names = ("batch", "length", "rows", "verdict", "absolute", "relative")
    table = Table(*names, title=title, title_justify="left")
    for case in cases:
        shape = case["shape"]
        rows = "padded" if shape["padded"] else "unpadded"
        spelled = ", special tokens" if shape["spelled"] else ""
        paired = ", two texts" if shape.get("paired") else ""
        differences = [
            "\n".join(f"{output[key]:.1e}" for output in case["outputs"])
            for key in ("max_abs", "max_rel")
        ]
        sizes = (str(shape["batch"]), str(shape["length"]))
        table.add_row(*sizes, rows + paired + spelled, case["verdict"], *differences)
    return table


def _material(quality: dict[str, Any]) -> str:
    calibrated = quality["lines_calibrated_on"]
    others = "others" if quality["held_apart"] else "the same ones"
    return f"{quality['lines_tried']} lines of {quality['texts_from']} tried beside float32" + (
        f", int8 calibrated on {calibrated} ({others})" if calibrated else ""
    )


def _precisions(quality: dict[str, Any]) -> Table:
    """Return what each precision changed, and its time if measured."""
    times = quality.get("milliseconds_a_text", {})
    table = Table(
        "precision", "decisions", "kept", "mean change", "largest", "verdict", "ms a text"
    )
    if "float32" in times:
        table.add_row("float32", "", "", "", "", "exact", f"{times['float32']:.2f}")
    for each in quality["tried"]:
        took = f"{times[each['precision']]:.2f}" if each["precision"] in times else ""
        if reason := each.get("not_tried"):
            table.add_row(each["precision"], "", "", "", "", f"not tried: {reason}", took)
            continue
        changes = [_figure(each[key]) for key in ("mean_change", "largest_change")]
        kept = f"{each['share_kept']:.2%}"
        verdict = "passed" if each["passed"] else "refused"
        table.add_row(each["precision"], str(each["decisions"]), kept, *changes, verdict, took)
    return table


def _figure(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.1e}"
