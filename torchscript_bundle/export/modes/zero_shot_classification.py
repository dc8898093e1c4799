"""Zero-shot classification: how well a text entails a hypothesis, by an entailment model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.labels import resolve_labels
from torchscript_bundle.export.modes.base import ExportMode
from torchscript_bundle.export.quality.decisions import Comparison, Item, compare_choices
from torchscript_bundle.export.source import Source
from torchscript_bundle.serving.modes.mode_options import ZeroShotOptions

logger = logging.getLogger(__name__)


class ZeroShotClassification(ExportMode):
    pairs = "always"

    def labels(self, model_config: Any, num_labels: int | None, artifacts: Path) -> tuple[str, ...]:
        # Requests bring their own labels; the model's number is checked all the same.
        resolve_labels(model_config, num_labels, artifacts)
        return ()

    def options(self, source: Source, config: SetupConfig) -> ZeroShotOptions:
        # Source: transformers' ZeroShotClassificationPipeline.entailment_id and postprocess.
        indices: dict[str, int] = source.model.config.label2id
        size = source.model.config.num_labels
        entailment = next(
            (index for name, index in indices.items() if name.lower().startswith("entail")), -1
        )
        if size < 2 or not 0 <= entailment < size:
            named = sorted(indices, key=lambda name: indices[name])
            raise ExportError(
                f"{source.name} has the labels {', '.join(named)}; zero_shot_classification "
                "needs a model with two labels or more, one of them entailment: choose one that "
                "was fine-tuned on natural language inference, or correct label2id in config.json"
            )
        contradiction = size - 1 if entailment == 0 else 0
        names = {index: name for name, index in indices.items()}
        if "neutral" in names.get(contradiction, "").lower():
            logger.warning(
                "%s has its label %s where transformers looks for contradiction, and so does the "
                "score of each label with multi_label, as in transformers",
                source.name,
                names[contradiction],
            )
        return ZeroShotOptions(entailment=entailment, contradiction=contradiction)

    def compare(self, expected: Item, actual: Item, options: Mapping[str, Any]) -> Comparison:
        """Compare the best label; of a single one, whether the text entails it."""
        before, after = (
            torch.stack([row.outputs[0] for row in rows]) for rows in (expected, actual)
        )
        at = ZeroShotOptions.read(options)
        if len(before) == 1:
            both = [at.contradiction, at.entailment]
            return compare_choices(before[:, both], after[:, both])
        return compare_choices(before[None, :, at.entailment], after[None, :, at.entailment])
