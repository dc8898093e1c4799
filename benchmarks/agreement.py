"""Labels of the demo model in each precision, beside float32 and beside the truth.

`python -m benchmarks.agreement ARTIFACT` prints the labels of the held-out sentences as JSON.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.archives import NotMade, make_archive
from benchmarks.model import CACHE
from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.server import ROOT

MODEL = ROOT / "demo" / "model"
CALIBRATED_ON = 256


def measure(precisions: tuple[str, ...]) -> dict[str, Any]:
    """Precision -> accuracy and agreement with float32; why not, where it cannot be had."""
    truth = [row["label"] for row in _rows(MODEL / "held_out.csv")]
    found: dict[str, Any] = {"sentences": len(truth)}
    exact: list[str] = []
    for precision in precisions:
        try:
            labels = labels_of(precision)
        except NotMade as error:
            found[precision] = {"not_made": str(error)}
            continue
        exact = exact or labels
        found[precision] = {"accuracy": share(labels, truth), "agreement": share(labels, exact)}
    return found


def labels_of(precision: str) -> list[str]:
    """What the demo's archive in a precision says of the held-out sentences.

    Raises:
        NotMade: it cannot be had.
    """
    settings: dict[str, object] = {"artifacts_dir": str(ROOT / "Seq_classification_artifacts")}
    if precision != "float32":
        settings |= {"precision": precision, "calibration_file": str(_calibration_file())}
    if unknown := settings.keys() - SetupConfig.model_fields.keys():
        raise NotMade(f"the config has no key {' or '.join(sorted(unknown))} yet")
    made = make_archive(f"demo-{precision}", MODEL, settings)
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.agreement", str(made.artifact)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return list(json.loads(done.stdout))


def share(labels: list[str], others: list[str]) -> float:
    """The share that is equal."""
    return sum(one == other for one, other in zip(labels, others, strict=True)) / len(labels)


def _calibration_file() -> Path:
    """Sentences that the model was trained on, so that the held-out ones stay unseen."""
    unseen = {row["text"] for row in _rows(MODEL / "held_out.csv")}
    rows = _rows(ROOT / "demo" / "reviews.csv")
    texts = [row["text"] for row in rows if row["text"] not in unseen]
    path = CACHE / "calibration.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(texts[:: len(texts) // CALIBRATED_ON]) + "\n", encoding="utf-8")
    return path


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def main() -> None:
    """Prints the labels."""
    import torch

    from torchscript_bundle.serving.http import HttpRequest
    from torchscript_bundle.serving.service import Service

    service = Service(Path(sys.argv[1]), torch.device("cpu"))
    labels = []
    for row in _rows(MODEL / "held_out.csv"):
        request = HttpRequest({"body": row["text"].encode()}, {"body": "text/plain"})
        [response] = service.answer([request])
        labels.append(json.loads(response.body)["label"])
    print(json.dumps(labels))


if __name__ == "__main__":
    main()
