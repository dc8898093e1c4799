"""Choose the precision that an artifact is served in, tried beside float32."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.modes import MODES
from torchscript_bundle.export.quality.decisions import Comparison
from torchscript_bundle.export.quality.gate import LEAST_KEPT, MEAN_CHANGE, Findings, judge
from torchscript_bundle.export.quality.material import AUTO, gather, write_calibration
from torchscript_bundle.export.quality.rehearsal import (
    AnsweringRehearsal,
    CannotRunError,
    Rehearsal,
)
from torchscript_bundle.export.quality.speed import fastest, measure
from torchscript_bundle.export.quality.writing import WritingRehearsal
from torchscript_bundle.serving.artifact import (
    CALIBRATION_FILE,
    FLOAT32,
    PRECISIONS,
    Bundle,
    lower_precisions,
)

logger = logging.getLogger(__name__)


def settle_precision(config: SetupConfig, folder: Path, bundle: Bundle) -> Bundle:
    """Try the config's precision on an artifact; for `auto`, choose the fastest that passes.

    This overwrites `bundle.json`. The returned bundle has the precision and, unless float32 was
    asked for, the report. ExportError: the precision changes answers, or cannot be tried.
    """
    asked = config.precision
    if asked == FLOAT32:
        return bundle
    trial = _Trial(config, folder, bundle)
    if asked != AUTO:
        findings = trial.run(asked)
        if not findings.passed:
            raise ExportError(
                f'precision: "{asked}" changes too much: {findings.in_words()}; '
                f"{LEAST_KEPT:.1%} and {MEAN_CHANGE:.0e} are allowed: "
                'set another precision ("float32" is exact)'
            )
        logger.info("      %s: %s", asked, findings.in_words())
        return replace(bundle, precision=asked, quality=trial.report([findings.as_dict()]))
    return trial.choose()


class _Trial:
    """Compares the workers of one artifact at float32 and below."""

    def __init__(self, config: SetupConfig, folder: Path, bundle: Bundle) -> None:
        self._config = config
        self._folder = folder
        self._bundle = bundle
        self._device = torch.device(config.device)
        self._mode = MODES[config.mode]
        self._rehearse = WritingRehearsal if config.task.generates else AnsweringRehearsal
        self._reference = self._rehearse(folder, bundle, FLOAT32, self._device)
        self._material = gather(config, self._reference)

    def run(self, precision: str) -> Findings:
        """Try one precision; raise ExportError if it cannot be tried."""
        try:
            return self._compare(precision, self._start(precision))
        except CannotRunError as error:
            raise ExportError(
                f'precision: "{precision}" cannot be tried: {error}; or set another precision '
                '("float32" works everywhere)'
            ) from error

    def choose(self) -> Bundle:
        """Choose the fastest of the precisions that pass."""
        passed: dict[str, Rehearsal] = {FLOAT32: self._reference}
        tried: list[dict[str, Any]] = []
        for precision in lower_precisions(self._device.type):
            try:
                rehearsal = self._start(precision)
            except CannotRunError as error:
                logger.info("      %s: not tried: %s", precision, error)
                tried.append({"precision": precision, "not_tried": str(error)})
                continue
            findings = self._compare(precision, rehearsal)
            verdict = "" if findings.passed else "refused: "
            logger.info("      %s: %s%s", precision, verdict, findings.in_words())
            tried.append(findings.as_dict())
            if findings.passed:
                passed[precision] = rehearsal
        times = measure(passed, self._material.calls(self._config.batch_size))
        chosen = fastest(times)
        if not PRECISIONS[chosen].calibrated:
            (self._folder / CALIBRATION_FILE).unlink(missing_ok=True)
        for precision, milliseconds in times.items():
            logger.info("      %s: %.2f ms a text", precision, milliseconds)
        logger.info("      chosen: %s", chosen)
        report = {**self.report(tried), "milliseconds_a_text": times}
        return replace(self._bundle, precision=chosen, quality=report)

    def report(self, tried: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the report as `bundle.json` keeps it."""
        return {
            "asked": self._config.precision,
            **self._material.as_dict(),
            "least_share_kept": LEAST_KEPT,
            "most_mean_change": MEAN_CHANGE,
            "tried": list(tried),
        }

    def _start(self, precision: str) -> Rehearsal:
        gc.collect()  # the last one's weights
        if PRECISIONS[precision].calibrated:
            write_calibration(self._folder, self._bundle, self._material)
        return self._rehearse(self._folder, self._bundle, precision, self._device)

    def _compare(self, precision: str, worker: Rehearsal) -> Findings:
        return judge(precision, zip(self._material.numbers, self._compared(worker), strict=True))

    def _compared(self, worker: Rehearsal) -> Iterator[list[Comparison]]:
        """Compare the items of each line; call by call, since outputs may be large."""
        options = self._bundle.mode_options
        for call in self._material.calls(self._config.batch_size):
            both = self._reference.compute(call), worker.compute(call)
            for items in zip(*both, strict=True):
                yield [self._mode.compare(*pair, options) for pair in zip(*items, strict=True)]
