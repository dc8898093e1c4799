"""Zero-shot classification: how well a text entails a hypothesis, by an entailment model."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.labels import resolve_labels
from torchscript_bundle.export.modes.base import Pairs
from torchscript_bundle.export.quality.decisions import Comparison, Item, compare_choices
from torchscript_bundle.export.wrappers import wrap_model
from torchscript_bundle.serving.artifact import Output

if TYPE_CHECKING:
    from torchscript_bundle.export.config import SetupConfig
    from torchscript_bundle.export.source import Source

logger = logging.getLogger(__name__)


class ZeroShotClassification:
    """See the module."""

    artifacts_dir = "Zero_shot_artifacts"
    auto_class = "AutoModelForSequenceClassification"
    outputs = (Output("logits"),)
    pairs: Pairs = "always"
    explained = True
    settings = ()
    unused_weights = ()

    def wrap(
        self, model: torch.nn.Module, inputs: Sequence[str], options: Mapping[str, Any]
    ) -> torch.nn.Module:
        return wrap_model(model, inputs)

    def labels(self, model_config: Any, num_labels: int | None, artifacts: Path) -> tuple[str, ...]:
        """None: requests bring their own. The model's number of labels is checked all the same."""
        resolve_labels(model_config, num_labels, artifacts)
        return ()

    def options(self, source: Source, config: SetupConfig) -> dict[str, Any]:
        """Indices of the logits for "the text entails it" and "the text contradicts it".

        Source: transformers' ZeroShotClassificationPipeline.entailment_id and postprocess.
        """
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
        return {"entailment": entailment, "contradiction": contradiction}

    def compare(self, expected: Item, actual: Item, options: Mapping[str, Any]) -> Comparison:
        """The best of the candidate labels; of a single one, whether the text entails it."""
        before, after = (
            torch.stack([row.outputs[0] for row in rows]) for rows in (expected, actual)
        )
        entailment, contradiction = options["entailment"], options["contradiction"]
        if len(before) == 1:
            weighed = [contradiction, entailment]
            return compare_choices(before[:, weighed], after[:, weighed])
        return compare_choices(before[None, :, entailment], after[None, :, entailment])
