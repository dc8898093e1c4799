"""Fill mask: logits over the vocabulary for each mask of a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.masked_logits import wrap_masked
from torchscript_bundle.export.modes.base import ExportMode, Given
from torchscript_bundle.export.quality.decisions import Comparison, Item, compare_choices
from torchscript_bundle.export.source import Source
from torchscript_bundle.export.tokenizer_file import DECODING, check_methods, cleans_up_spaces
from torchscript_bundle.serving.artifact import Output
from torchscript_bundle.serving.modes.mode_options import FillMaskOptions


class FillMask(ExportMode):
    outputs = (Output("logits", special="mask"),)
    model_outputs = (Output("logits", per_token=True),)

    def wrap(self, model: torch.nn.Module, given: Given) -> torch.nn.Module:
        mask_id = FillMaskOptions.read(given.options).mask_token_id
        return wrap_masked(model, given.inputs, mask_id, before_output_layer=True)

    def reference(self, model: torch.nn.Module, given: Given) -> torch.nn.Module:
        mask_id = FillMaskOptions.read(given.options).mask_token_id
        return wrap_masked(model, given.inputs, mask_id, before_output_layer=False)

    def options(self, source: Source, config: SetupConfig) -> FillMaskOptions:
        tokenizer = source.tokenizer
        if tokenizer.mask_token_id is None:
            raise ExportError(
                f"the tokenizer of {source.name} has no mask token; choose a model trained to fill "
                "masks, or set its mask_token and save it again"
            )
        check_methods(tokenizer, DECODING)
        return FillMaskOptions(
            mask_token=str(tokenizer.mask_token),
            mask_token_id=tokenizer.mask_token_id,
            clean_up_spaces=cleans_up_spaces(tokenizer),
        )

    def compare(self, expected: Item, actual: Item, options: Mapping[str, Any]) -> Comparison:
        """Compare the best token of each mask, the only logits that workers keep."""
        [before], [after] = expected, actual
        return compare_choices(before.outputs[0], after.outputs[0])
