"""Sequence classification: one row of logits for each text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from torchscript_bundle.export.labels import resolve_labels
from torchscript_bundle.export.wrappers import wrap_model


class SequenceClassification:
    """See the module."""

    artifacts_dir = "Seq_classification_artifacts"
    auto_class = "AutoModelForSequenceClassification"

    def wrap(self, model: torch.nn.Module, inputs: Sequence[str]) -> torch.nn.Module:
        return wrap_model(model, inputs)

    def labels(self, model_config: Any, num_labels: int | None, artifacts: Path) -> tuple[str, ...]:
        return resolve_labels(model_config, num_labels, artifacts)

    def options(self, model_config: Any) -> dict[str, Any]:
        """`problem_type`, settled where the model leaves it open.

        Source: transformers' TextClassificationPipeline.postprocess.
        """
        problem_type = model_config.problem_type
        if problem_type != "regression" and model_config.num_labels == 1:
            problem_type = "multi_label_classification"
        return {"problem_type": problem_type or "single_label_classification"}
