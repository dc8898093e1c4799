"""Fill mask: logits over the vocabulary for each token of a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.modes.base import Pairs
from torchscript_bundle.export.quality.decisions import Comparison, Item, compare_choices
from torchscript_bundle.export.tokenizer import DECODING, check_methods, cleans_up_spaces
from torchscript_bundle.export.wrappers import wrap_model
from torchscript_bundle.serving.artifact import Output

if TYPE_CHECKING:
    from torchscript_bundle.export.config import SetupConfig
    from torchscript_bundle.export.source import Source


class FillMask:
    """See the module."""

    artifacts_dir = "Fill_mask_artifacts"
    auto_class = "AutoModelForMaskedLM"
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
        """None: the vocabulary takes their place."""
        return ()

    def options(self, source: Source, config: SetupConfig) -> dict[str, Any]:
        """The mask, and whether spaces before punctuation are removed from the filled texts."""
        tokenizer = source.tokenizer
        if tokenizer.mask_token_id is None:
            raise ExportError(
                f"the tokenizer of {source.name} has no mask token; choose a model trained to fill "
                "masks, or set its mask_token and save it again"
            )
        check_methods(tokenizer, DECODING)
        return {
            "mask_token": tokenizer.mask_token,
            "mask_token_id": tokenizer.mask_token_id,
            "clean_up_spaces": cleans_up_spaces(tokenizer),
        }

    def compare(self, expected: Item, actual: Item, options: Mapping[str, Any]) -> Comparison:
        """The best token of each mask; workers keep the logits of nothing else."""
        [before], [after] = expected, actual
        return compare_choices(before.outputs[0], after.outputs[0])
