"""Token classification: logits for each token of a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from torchscript_bundle.export.labels import resolve_labels
from torchscript_bundle.export.modes.base import Pairs
from torchscript_bundle.export.quality.decisions import Comparison, Item, compare_choices
from torchscript_bundle.export.tokenizer import check_methods
from torchscript_bundle.export.wrappers import wrap_model
from torchscript_bundle.serving.artifact import Output

if TYPE_CHECKING:
    from torchscript_bundle.export.config import SetupConfig
    from torchscript_bundle.export.source import Source


class TokenClassification:
    """See the module."""

    artifacts_dir = "Token_classification_artifacts"
    auto_class = "AutoModelForTokenClassification"
    outputs = (Output("logits", per_token=True),)
    pairs: Pairs = "never"
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
        """None: what spells entities is in tokenizer.json, if the tokenizer has no other way."""
        check_methods(source.tokenizer, ("convert_ids_to_tokens", "convert_tokens_to_string"))
        return {}

    def compare(self, expected: Item, actual: Item, options: Mapping[str, Any]) -> Comparison:
        """The label of each token of the text."""
        before, after = (
            torch.cat([row.outputs[0][~row.special] for row in rows]) for rows in (expected, actual)
        )
        return compare_choices(before, after)
