"""Sequence classification: one row of logits for each text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.labels import resolve_labels
from torchscript_bundle.export.modes.base import ExportMode
from torchscript_bundle.export.quality.decisions import BY_PROBLEM, Comparison, Item
from torchscript_bundle.export.source import Source
from torchscript_bundle.serving.modes.mode_options import ProblemType, SequenceClassificationOptions

#: Problem types: one label out of several, and labels that may all apply.
SINGLE: ProblemType = "single_label_classification"
MULTI: ProblemType = "multi_label_classification"


class SequenceClassification(ExportMode):
    pairs = "offered"
    traced_dimensions = 2

    def labels(self, model_config: Any, num_labels: int | None, artifacts: Path) -> tuple[str, ...]:
        return resolve_labels(model_config, num_labels, artifacts)

    def options(self, source: Source, config: SetupConfig) -> SequenceClassificationOptions:
        # Source: transformers' TextClassificationPipeline.postprocess.
        given, count = source.model.config.problem_type, source.model.config.num_labels
        if given is None:
            return SequenceClassificationOptions(SINGLE if count > 1 else MULTI)
        if given not in BY_PROBLEM:
            raise ExportError(
                f"problem_type in config.json of {source.name} is {json.dumps(given)}; set it to "
                f"one of {', '.join(BY_PROBLEM)}, or remove it"
            )
        return SequenceClassificationOptions(given)

    def compare(self, expected: Item, actual: Item, options: Mapping[str, Any]) -> Comparison:
        """Compare the best label, or all labels where several may apply."""
        [before], [after] = expected, actual
        problem_type = SequenceClassificationOptions.read(options).problem_type
        return BY_PROBLEM[problem_type](before.outputs[0], after.outputs[0])
