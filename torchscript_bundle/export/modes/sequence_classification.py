"""Sequence classification: one row of logits for each text."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from torchscript_bundle.export.labels import resolve_labels


class SequenceClassification:
    """See the module."""

    artifacts_dir = "Seq_classification_artifacts"
    auto_class = "AutoModelForSequenceClassification"

    def wrap(self, model: torch.nn.Module, inputs: Sequence[str]) -> torch.nn.Module:
        return Logits(model, with_token_types="token_type_ids" in inputs)

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


class Logits(torch.nn.Module):
    """The model's logits as a tuple; a trace cannot return a ModelOutput.

    Args:
        model: a transformers model with a classification head.
        with_token_types: whether the third argument is given.
    """

    def __init__(self, model: torch.nn.Module, *, with_token_types: bool) -> None:
        super().__init__()
        self.model = model
        self._with_token_types = with_token_types
        takes_cache = "use_cache" in inspect.signature(model.forward).parameters
        self._options = {"use_cache": False} if takes_cache else {}

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor]:
        """int64 `[batch, length]` each -> `(logits,)`, float32 `[batch, labels]`."""
        types = {"token_type_ids": token_type_ids} if self._with_token_types else {}
        output = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            return_dict=True,
            **types,
            **self._options,
        )
        return (output.logits,)
