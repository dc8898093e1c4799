"""Token classification: logits for each token of a text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.labels import resolve_labels
from torchscript_bundle.export.modes.base import ExportMode
from torchscript_bundle.export.quality.decisions import Comparison, Item, compare_choices
from torchscript_bundle.export.source import Source
from torchscript_bundle.export.tokenizer_file import (
    check_decoding,
    check_methods,
    cleaned_up_spaces,
)
from torchscript_bundle.serving.artifact import Output
from torchscript_bundle.serving.modes.mode_options import ExampleSpelling, ModeOptions


class TokenClassification(ExportMode):
    outputs = (Output("logits", per_token=True),)
    traced_dimensions = 3

    def labels(self, model_config: Any, num_labels: int | None, artifacts: Path) -> tuple[str, ...]:
        return resolve_labels(model_config, num_labels, artifacts)

    def options(self, source: Source, config: SetupConfig) -> ModeOptions:
        # Entities are spelled by tokenizer.json alone.
        check_methods(source.tokenizer, ("convert_ids_to_tokens", "convert_tokens_to_string"))
        return ModeOptions()

    def example_options(self, source: Source, config: SetupConfig) -> ModeOptions:
        check_decoding(source.tokenizer, config.samples)
        return ExampleSpelling(cleaned_up_spaces(source.tokenizer))

    def compare(self, expected: Item, actual: Item, options: Mapping[str, Any]) -> Comparison:
        """Compare the label of each token of the text."""
        before, after = (
            torch.cat([row.outputs[0][~row.special] for row in rows]) for rows in (expected, actual)
        )
        return compare_choices(before, after)
