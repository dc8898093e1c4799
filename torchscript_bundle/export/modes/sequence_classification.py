"""Sequence classification: one row of logits for each text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.labels import resolve_labels
from torchscript_bundle.export.modes.base import Pairs
from torchscript_bundle.export.quality.decisions import BY_PROBLEM, Comparison, Item
from torchscript_bundle.export.wrappers import wrap_model
from torchscript_bundle.serving.artifact import Output

if TYPE_CHECKING:
    from torchscript_bundle.export.config import SetupConfig
    from torchscript_bundle.export.source import Source

#: Types of problem: what one label chosen among several is, and labels that may all hold.
SINGLE, MULTI = "single_label_classification", "multi_label_classification"


class SequenceClassification:
    """See the module."""

    artifacts_dir = "Seq_classification_artifacts"
    auto_class = "AutoModelForSequenceClassification"
    outputs = (Output("logits"),)
    pairs: Pairs = "offered"
    explained = True
    settings = ()
    unused_weights = ()

    def wrap(
        self, model: torch.nn.Module, inputs: Sequence[str], options: Mapping[str, Any]
    ) -> torch.nn.Module:
        return wrap_model(model, inputs)

    def labels(self, model_config: Any, num_labels: int | None, artifacts: Path) -> tuple[str, ...]:
        return resolve_labels(model_config, num_labels, artifacts)

    def options(self, source: Source, config: SetupConfig) -> dict[str, Any]:
        """`problem_type`, settled where the model leaves it open.

        Source: transformers' TextClassificationPipeline.postprocess.

        Raises:
            ExportError: there is no such type.
        """
        given, count = source.model.config.problem_type, source.model.config.num_labels
        if given is None:
            return {"problem_type": SINGLE if count > 1 else MULTI}
        if given not in BY_PROBLEM:
            raise ExportError(
                f"problem_type in config.json of {source.name} is {json.dumps(given)}; set it to "
                f"one of {', '.join(BY_PROBLEM)}, or remove it"
            )
        return {"problem_type": given}

    def compare(self, expected: Item, actual: Item, options: Mapping[str, Any]) -> Comparison:
        """The label; of several that may hold at once, all of them."""
        [before], [after] = expected, actual
        return BY_PROBLEM[options["problem_type"]](before.outputs[0], after.outputs[0])
