"""The texts of a trial: refused, calibrated on, tried on."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.quality.rehearsal import CannotRunError, Rehearsal, Request
from torchscript_bundle.export.quality.texts import FEWEST_LINES, read_lines, spread
from torchscript_bundle.serving.artifact import CALIBRATION_FILE, PRECISIONS, Bundle
from torchscript_bundle.serving.engine.comparison import UnavailableError
from torchscript_bundle.serving.engine.loaders import load_torchscript
from torchscript_bundle.serving.engine.onednn import calibrate
from torchscript_bundle.serving.engine.padding import pad_batch

logger = logging.getLogger(__name__)

#: The config's `precision` that tries every one.
AUTO = "auto"
#: Most refused lines in the log.
MOST_TOLD = 3
#: Most requests to calibrate on: ranges are known by then.
MOST_CALIBRATING = 256
#: Most rows to calibrate on: a request may hold many.
MOST_ROWS = 512


@dataclass(frozen=True)
class Material:
    """The requests of a trial, as a worker read them, with their line numbers in `source`.

    int8 is calibrated on `calibrating`, which is `held_apart` if not tried on as well. `refused`
    are numbers of lines that a worker would not answer.
    """

    source: str
    numbers: tuple[int, ...]
    requests: tuple[Request, ...]
    calibrating: tuple[Request, ...]
    held_apart: bool
    refused: tuple[int, ...]

    def calls(self, size: int) -> list[Sequence[Request]]:
        """Return the requests to try on, `size` in a call, as many as a worker may get."""
        return [self.requests[at : at + size] for at in range(0, len(self.requests), size)]

    def as_dict(self) -> dict[str, Any]:
        """Return the part of the report in `bundle.json`."""
        return {
            "texts_from": self.source,
            "lines_tried": len(self.requests),
            "lines_calibrated_on": len(self.calibrating),
            "held_apart": self.held_apart,
            "refused_lines": list(self.refused),
        }


def gather(config: SetupConfig, worker: Rehearsal) -> Material:
    """Read the config's texts as a worker reads requests; ExportError if it would answer none.

    Where int8 is tried and there are enough, it is calibrated on some and tried on the others.
    """
    source = config.calibration.name if config.calibration else "the sample requests"
    both = [(line.number, worker.read(line)) for line in read_lines(config)]
    refused = [(number, read) for number, read in both if isinstance(read, str)]
    requests = [(number, read) for number, read in both if not isinstance(read, str)]
    for number, sentence in refused[:MOST_TOLD]:
        logger.warning("%s, line %d is left out: %s", source, number, sentence)
    if not requests:
        raise ExportError(
            f"precision: none of the {len(refused)} texts of {source} can be answered "
            f"({refused[0][1]}); give a calibration_file, one text or one JSON request a line"
        )
    calibrates = config.precision == AUTO or PRECISIONS[config.precision].calibrated
    apart = calibrates and len(requests) >= 2 * FEWEST_LINES
    chosen = {*spread(len(requests), min(MOST_CALIBRATING, len(requests) // (2 if apart else 1)))}
    if len(requests) < FEWEST_LINES:
        logger.warning(
            "%s: %d that can be answered, on which figures say little; give a calibration_file "
            "with some hundred texts or requests such as clients will send",
            source,
            len(requests),
        )
    tried = [each for at, each in enumerate(requests) if not apart or at not in chosen]
    return Material(
        source,
        numbers=tuple(number for number, _ in tried),
        requests=tuple(request for _, request in tried),
        calibrating=tuple(requests[at][1] for at in sorted(chosen)) if calibrates else (),
        held_apart=apart,
        refused=tuple(number for number, _ in refused),
    )


def write_calibration(folder: Path, bundle: Bundle, material: Material) -> None:
    """Run texts through an artifact's module, and write its calibration beside it.

    Rows run one by one: padding would be measured as if it were text. CannotRunError: there are too
    few texts, or the module cannot be observed.
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
