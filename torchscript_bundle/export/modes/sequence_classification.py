"""Sequence classification: one row of logits for each text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from torchscript_bundle.export.labels import resolve_labels
from torchscript_bundle.export.modes.base import Pairs
from torchscript_bundle.export.quality.comparison import BY_PROBLEM, Comparison, Item
from torchscript_bundle.export.wrappers import wrap_model
from torchscript_bundle.serving.artifact import Output

if TYPE_CHECKING:
    from torchscript_bundle.export.config import SetupConfig
    from torchscript_bundle.export.source import Source


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
        """
        problem_type = source.model.config.problem_type
        if problem_type != "regression" and source.model.config.num_labels == 1:
            problem_type = "multi_label_classification"
        return {"problem_type": problem_type or "single_label_classification"}

    def compare(self, expected: Item, actual: Item, options: Mapping[str, Any]) -> Comparison:
        """The label; of several that may hold at once, all of them."""
        [before], [after] = expected, actual
        return BY_PROBLEM[options["problem_type"]](before.outputs[0], after.outputs[0])
