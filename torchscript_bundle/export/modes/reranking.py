"""Reranking: one score for a query and a passage together, as a CrossEncoder gives it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.modes.base import ExportMode
from torchscript_bundle.export.quality.decisions import Comparison, Item, compare_order
from torchscript_bundle.export.sentence_folder import (
    check_transformer,
    read_model_config,
    read_modules,
    read_prompts,
)
from torchscript_bundle.export.source import Source
from torchscript_bundle.serving.modes.mode_options import Activation, RerankingOptions

#: torch's classes, as folders name them.
ACTIVATIONS: dict[str, Activation] = {"Sigmoid": "sigmoid", "Identity": "identity"}


class Reranking(ExportMode):
    pairs = "always"

    def labels(self, model_config: Any, num_labels: int | None, artifacts: Path) -> tuple[str, ...]:
        size = int(model_config.num_labels)
        if size != 1 or num_labels not in (None, 1):
            raise ExportError(
                f"the model has {size} labels and setup_config.json says num_labels {num_labels}; "
                "a reranker has one, its score: choose such a model, or the mode "
                "sequence_classification"
            )
        return ()

    def options(self, source: Source, config: SetupConfig) -> RerankingOptions:
        kinds = [module.kind for module in read_modules(source)]
        if kinds not in ([], ["Transformer"]):
            raise ExportError(
                f"{source.name} has the sentence-transformers modules {', '.join(kinds)}; a "
                "reranker is exported as a Transformer alone: choose another model"
            )
        check_transformer(source, config)
        prompts, default = read_prompts(source) if kinds else ({}, "")
        if prompts.get(default):
            raise ExportError(
                f"{source.name} puts a prompt before each query (default_prompt_name), which is "
                "not done here; choose another model"
            )
        return RerankingOptions(activation=_activation(source))

    def compare(self, expected: Item, actual: Item, options: Mapping[str, Any]) -> Comparison:
        """Compare the order of each two passages."""
        before, after = (torch.cat([row.outputs[0] for row in rows]) for rows in (expected, actual))
        return compare_order(before, after)


def _activation(source: Source) -> Activation:
    """Return the folder's activation, else a sigmoid, as for every model with one label.

    Source: sentence_transformers' CrossEncoder._parse_model_config and get_default_activation_fn.
    """
    model_config = source.model.config
    of_transformers = getattr(model_config, "sentence_transformers", None) or {}
    old = getattr(model_config, "sbert_ce_default_activation_function", None)
    saved = read_model_config(source).get("activation_fn") if read_modules(source) else None
    path = saved or of_transformers.get("activation_fn") or old or "torch.nn.Sigmoid"
    package, _, name = str(path).rpartition(".")
    if name not in ACTIVATIONS or package.partition(".")[0] != "torch":
        raise ExportError(
            f"{source.name} makes its scores with {path}; served are torch's "
            f"{' and '.join(ACTIVATIONS)}: choose another model, or correct activation_fn"
        )
    return ACTIVATIONS[name]
