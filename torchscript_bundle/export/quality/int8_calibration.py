"""Calibrate int8: find the ranges of what a model's layers read on real texts."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from torchscript_bundle.export.quality.material import Material
from torchscript_bundle.export.quality.rehearsal import CannotRunError
from torchscript_bundle.export.quality.texts import FEWEST_LINES, spread
from torchscript_bundle.serving.artifact import CALIBRATION_FILE, Bundle
from torchscript_bundle.serving.engine.comparison import UnavailableError
from torchscript_bundle.serving.engine.loaders import load_torchscript
from torchscript_bundle.serving.engine.onednn import calibrate
from torchscript_bundle.serving.engine.padding import pad_batch

#: Most rows that are run: a request may hold many.
MOST_ROWS = 512


def write_calibration(folder: Path, bundle: Bundle, material: Material) -> None:
    """Run texts through an artifact's module, and write its calibration beside it.

    Rows run one by one: padding would be measured as if it were text.

    Raises:
        CannotRunError: there are too few texts, or the module cannot be observed.
    """
    if len(material.calibrating) < FEWEST_LINES:
        raise CannotRunError(
            f"it is calibrated on {FEWEST_LINES} texts at least, and {material.source} has "
            f"{len(material.calibrating)} that can be answered; give a calibration_file, one text "
            "or one JSON request a line, such as clients will send (some hundred are better)"
        )
    rows = [row for request in material.calibrating for row in request.flat]
    taken = [rows[at] for at in spread(len(rows), MOST_ROWS)]
    module = load_torchscript(folder, bundle, torch.device("cpu"))
    try:
        found = calibrate(module, [pad_batch([row], bundle) for row in taken])
    except UnavailableError as error:
        raise CannotRunError(str(error)) from error
    path = folder / CALIBRATION_FILE
    path.write_text(json.dumps(found.as_dict(), indent=1) + "\n", encoding="utf-8")
