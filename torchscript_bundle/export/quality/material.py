"""The requests that a trial is made of: which were understood, which calibrate, which are tried."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.quality.rehearsal import Rehearsal, Request
from torchscript_bundle.export.quality.texts import FEWEST_LINES, read_lines, spread

logger = logging.getLogger(__name__)

#: Values of `precision` that int8 is tried for.
CALIBRATED = ("int8", "auto")
#: Most refused lines that are told.
MOST_TOLD = 3
#: Most requests that calibrate: ranges are known by then.
MOST_CALIBRATING = 256


@dataclass(frozen=True)
class Material:
    """Requests by their lines.

    Attributes:
        source: where they are from.
        numbers: of the lines that are tried.
        requests: those lines, read.
        calibrating: what int8 is calibrated on.
        held_apart: whether those are others than the ones that are tried.
        refused: numbers of lines that a worker would not answer.
    """

    source: str
    numbers: tuple[int, ...]
    requests: tuple[Request, ...]
    calibrating: tuple[Request, ...]
    held_apart: bool
    refused: tuple[int, ...]

    def calls(self, size: int) -> list[Sequence[Request]]:
        """The requests that are tried, as many in a call as a worker may get."""
        return [self.requests[at : at + size] for at in range(0, len(self.requests), size)]

    def as_dict(self) -> dict[str, Any]:
        """What `bundle.json` says of them."""
        return {
            "texts_from": self.source,
            "lines_tried": len(self.requests),
            "lines_calibrated_on": len(self.calibrating),
            "held_apart": self.held_apart,
            "refused_lines": list(self.refused),
        }


def gather(config: SetupConfig, worker: Rehearsal) -> Material:
    """Reads the config's texts as a worker reads requests.

    Where int8 is tried and there are enough, some calibrate it and the others are tried.

    Raises:
        ExportError: there is none that a worker would answer.
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
    calibrates = config.precision in CALIBRATED
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
