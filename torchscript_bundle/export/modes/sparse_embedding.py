"""Sparse embedding: a weight for each term of the vocabulary, pooled inside the traced module.

A sentence-transformers folder says how; a plain masked language model is pooled as SparseEncoder
does, by the maximum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import torch

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.modes.base import ExportMode, Given
from torchscript_bundle.export.quality.decisions import Comparison, Item
from torchscript_bundle.export.sentence_folder import (
    check_transformer,
    read_model_config,
    read_modules,
    read_prompts,
)
from torchscript_bundle.export.source import Source
from torchscript_bundle.export.splade import wrap_splade
from torchscript_bundle.serving.artifact import Output
from torchscript_bundle.serving.modes.mode_options import (
    SparseActivation,
    SparseEmbeddingOptions,
    SparsePooling,
)

#: sentence-transformers' name of what a masked language model's head does.
TASK = "fill-mask"
#: Least cosine between the vectors of a text in float32 and at a lower precision.
SAME_DIRECTION = 0.99


class SparseEmbedding(ExportMode):
    outputs = (Output("embedding"),)
    model_outputs = (Output("logits", per_token=True),)

    def wrap(self, model: torch.nn.Module, given: Given) -> torch.nn.Module:
        how = SparseEmbeddingOptions.read(given.options)
        return wrap_splade(model, given.inputs, how.pooling, how.activation, in_blocks=True)

    def reference(self, model: torch.nn.Module, given: Given) -> torch.nn.Module:
        how = SparseEmbeddingOptions.read(given.options)
        return wrap_splade(model, given.inputs, how.pooling, how.activation, in_blocks=False)

    def options(self, source: Source, config: SetupConfig) -> SparseEmbeddingOptions:
        modules = read_modules(source)
        kinds = [module.kind for module in modules]
        if kinds not in ([], ["Transformer", "SpladePooling"], ["MLMTransformer", "SpladePooling"]):
            raise ExportError(
                f"{source.name} has the sentence-transformers modules {', '.join(kinds)}; a sparse "
                "encoder is exported as a masked language model and SpladePooling: choose such a "
                "model"
            )
        check_transformer(source, config, TASK)
        pooling = modules[1].config if modules else {}
        prompts, default = read_prompts(source) if modules else ({}, "")
        return SparseEmbeddingOptions(
            pooling=_choice(source, pooling, "pooling_strategy", get_args(SparsePooling)),
            activation=_choice(source, pooling, "activation_function", get_args(SparseActivation)),
            max_active_dims=_max_active_dims(source),
            prompts=prompts,
            default_prompt=prompts.get(default, ""),
        )

    def compare(self, expected: Item, actual: Item, options: Mapping[str, Any]) -> Comparison:
        """Compare the direction of the vectors; the score is their cosine.

        It is 1 for two vectors without terms, where a cosine has no value.
        """
        [before], [after] = expected, actual
        first, second = before.outputs[0], after.outputs[0]
        cosine = 1.0
        if bool(first.any()) or bool(second.any()):
            cosine = torch.cosine_similarity(first, second, dim=0).item()
        return Comparison(1, int(cosine >= SAME_DIRECTION), (1.0 - cosine,))


def _choice(source: Source, pooling: Mapping[str, Any], key: str, known: Sequence[str]) -> Any:
    """Return a setting of SpladePooling, by default the first of those that are known."""
    value = pooling.get(key, known[0])
    if value not in known:
        raise ExportError(
            f"{source.name} has the {key} {value!r}; exported are {' and '.join(known)}: choose "
            "another model"
        )
    return value


def _max_active_dims(source: Source) -> int | None:
    """Return how many terms SparseEncoder keeps of a text; None for all."""
    value = read_model_config(source).get("max_active_dims") if read_modules(source) else None
    if value is not None and (type(value) is not int or value < 1):
        raise ExportError(
            f"max_active_dims of {source.name} is {value!r}, and must be a whole number from 1; "
            "correct its config_sentence_transformers.json"
        )
    return value
