"""The texts that a lower precision is calibrated on and tried on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.errors import ExportError

#: Most lines that are used, evenly spread over a longer file.
MOST_LINES = 1000
#: Fewest lines whose figures mean something; int8 is not calibrated on fewer.
FEWEST_LINES = 32


@dataclass(frozen=True)
class Line:
    """A text or JSON request, numbered from 1 by line or sample; its text is never logged."""

    number: int
    text: str = field(repr=False)


def read_lines(config: SetupConfig) -> list[Line]:
    """Return the distinct lines of the calibration file; without one, the sample requests."""
    if config.calibration is None:
        texts: Sequence[str] = config.samples
    else:
        try:
            texts = config.calibration.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            said = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ExportError(
                f"calibration_file: {config.calibration} cannot be read ({said}); give a text file "
                "with one text, or one JSON request, a line"
            ) from error
    numbers: dict[str, int] = {}
    for number, text in enumerate(texts, start=1):
        if text.strip():
            numbers.setdefault(text.strip(), number)
    if not numbers:
        raise ExportError(
            f"calibration_file: {config.calibration} holds no text; write one text, or one JSON "
            "request, a line"
        )
    lines = [Line(number, text) for text, number in numbers.items()]
    return [lines[at] for at in spread(len(lines), MOST_LINES)]


def spread(count: int, most: int) -> list[int]:
    """Return at most `most` of the numbers below `count`, evenly spread."""
    chosen = min(count, most)
    return [at * count // chosen for at in range(chosen)]
