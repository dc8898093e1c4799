"""What lower precisions change of the demo model's answers to reviews that it never saw.

`python benchmarks/quality.py` exports demo/model (or takes an artifact of it with --artifact),
calibrates int8 on its calibration.txt and answers held_out.csv in every precision, with the code
that workers run.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from torchscript_bundle.export.config import SetupConfig, load_config
from torchscript_bundle.export.exporter import export
from torchscript_bundle.export.modes.sequence_classification import SequenceClassification
from torchscript_bundle.export.quality.decisions import Item
from torchscript_bundle.export.quality.gate import judge
from torchscript_bundle.export.quality.material import gather, write_calibration
from torchscript_bundle.export.quality.rehearsal import AnsweringRehearsal, Rehearsal
from torchscript_bundle.export.quality.texts import Line
from torchscript_bundle.serving.artifact import Bundle

DEMO = Path(__file__).resolve().parent.parent / "demo" / "model"
PRECISIONS = ("float32", "bfloat16", "int8")
CPU = torch.device("cpu")
BATCH = 8


def read_held_out() -> tuple[list[str], list[str]]:
    """Labels and texts."""
    with (DEMO / "held_out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["label"] for row in rows], [row["text"] for row in rows]


def write_config(folder: Path, calibration: Path) -> SetupConfig:
    """A config of the demo model, as if int8 was asked for."""
    path = folder / "setup_config.json"
    settings = {
        "model_name": str(DEMO),
        "mode": "sequence_classification",
        "precision": "int8",
        "calibration_file": str(calibration),
        "batch_size": BATCH,
    }
    path.write_text(json.dumps(settings))
    return load_config(path)


def answer(worker: Rehearsal, texts: Sequence[str]) -> list[Item]:
    """What a worker computes for each text."""
    read = [worker.read(Line(at, text)) for at, text in enumerate(texts, start=1)]
    requests = [each for each in read if not isinstance(each, str)]
    assert len(requests) == len(texts)
    calls = (requests[at : at + BATCH] for at in range(0, len(requests), BATCH))
    return [items[0] for call in calls for items in worker.compute(call)]


def measure(config: SetupConfig, folder: Path) -> dict[str, dict[str, float]]:
    """Precision -> how it compares with float32, and with the labels that people gave."""
    bundle = Bundle.load(folder)
    reference = AnsweringRehearsal(folder, bundle, "float32", CPU)
    write_calibration(folder, bundle, gather(config, reference))
    labels, texts = read_held_out()
    expected = answer(reference, texts)
    compare = SequenceClassification().compare
    results: dict[str, dict[str, float]] = {}
    for precision in PRECISIONS:
        found = answer(AnsweringRehearsal(folder, bundle, precision, CPU), texts)
        pairs = zip(expected, found, strict=True)
        compared = [[compare(*pair, bundle.mode_options)] for pair in pairs]
        findings = judge(precision, enumerate(compared, start=1))
        chosen = [bundle.labels[int(row.outputs[0].argmax())] for [row] in found]
        right = sum(label == wanted for label, wanted in zip(chosen, labels, strict=True))
        results[precision] = {
            "sentences": findings.decisions,
            "kept": findings.kept,
            "agreement": findings.share_kept,
            "accuracy": right / len(labels),
            "mean_change": findings.mean_change,
            "largest_change": findings.largest_change,
        }
    return results


def tabulate(results: dict[str, dict[str, float]]) -> Table:
    """What a person reads."""
    names = ("precision", "labels as float32", "accuracy", "scores moved, mean", "at most")
    table = Table(*names)
    for precision, each in results.items():
        table.add_row(
            precision,
            f"{each['kept']} of {each['sentences']} ({each['agreement']:.2%})",
            f"{each['accuracy']:.2%}",
            f"{each['mean_change']:.1e}",
            f"{each['largest_change']:.1e}",
        )
    return table


def main() -> int:
    """Prints the table; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifact", type=Path, help="of the demo model; exported without it")
    parser.add_argument("--calibration", type=Path, default=DEMO / "calibration.txt")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        config = write_config(Path(temporary), arguments.calibration.resolve())
        folder = Path(temporary) / "artifact"
        if arguments.artifact is None:
            export(config, folder)
        else:
            shutil.copytree(arguments.artifact, folder)
        results = measure(config, folder)
    Console().print(tabulate(results))
    if arguments.json:
        arguments.json.write_text(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
