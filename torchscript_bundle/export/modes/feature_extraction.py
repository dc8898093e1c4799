"""Feature extraction: a vector for each text, pooled and normalised inside the traced module.

A sentence-transformers folder says how; the tokens of a plain base model are averaged.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.modes.base import ExportMode
from torchscript_bundle.export.pooling import wrap_pooled
from torchscript_bundle.export.quality.decisions import Comparison, Item
from torchscript_bundle.export.sentence_folder import (
    Module,
    check_transformer,
    read_model_config,
    read_modules,
    read_prompts,
)
from torchscript_bundle.export.source import Source
from torchscript_bundle.serving.artifact import Output
from torchscript_bundle.serving.modes.mode_options import FeatureExtractionOptions, Pooling

logger = logging.getLogger(__name__)

#: Names of the poolings in new and old files of sentence-transformers.
OURS: dict[str, Pooling] = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
OLD_KEY = "pooling_mode_"
OLD_NAMES = {"cls_token": "cls", "mean_tokens": "mean", "lasttoken": "lasttoken"}
#: Least cosine between the vectors of a text in float32 and at a lower precision.
SAME_DIRECTION = 0.99
#: Keys of a Normalize module, which may name the vector of the whole text alone.
NORMALIZE_KEYS = ("module_input_name", "module_output_name")


class FeatureExtraction(ExportMode):
    outputs = (Output("embedding"),)
    model_outputs = (Output("last_hidden_state", per_token=True),)

    def wrap(
        self, model: torch.nn.Module, inputs: Sequence[str], options: Mapping[str, Any]
    ) -> torch.nn.Module:
        how = FeatureExtractionOptions.read(options)
        try:
            return wrap_pooled(model, inputs, how.pooling, normalize=how.normalized)
        except ValueError as error:
            raise ExportError(f"this is no text encoder: {error}; choose another model") from error

    def options(self, source: Source, config: SetupConfig) -> FeatureExtractionOptions:
        if getattr(source.model.config, "is_encoder_decoder", False):
            raise ExportError(
                f"{source.name} is an encoder with a decoder, whose last layer is the decoder's; "
                "choose a model that is an encoder or a decoder alone"
            )
        modules = read_modules(source)
        _check_steps(source, modules)
        check_transformer(source, config)
        prompts, default = _prompts(source, modules)
        return FeatureExtractionOptions(
            pooling=_pooling(source, config, modules),
            normalized=_normalized(source, config, modules),
            prompts=prompts,
            default_prompt=default,
        )

    def compare(self, expected: Item, actual: Item, options: Mapping[str, Any]) -> Comparison:
        """Compare the direction of the vectors; the score is their cosine."""
        [before], [after] = expected, actual
        cosine = torch.cosine_similarity(before.outputs[0], after.outputs[0], dim=0).item()
        return Comparison(1, int(cosine >= SAME_DIRECTION), (1.0 - cosine,))


def _check_steps(source: Source, modules: Sequence[Module]) -> None:
    """Refuse other modules, or another order, than Transformer, Pooling and Normalize."""
    kinds = [module.kind for module in modules]
    if kinds not in ([], ["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ExportError(
            f"{source.name} has the sentence-transformers modules {', '.join(kinds)}; exported are "
            "Transformer, Pooling and, after them, Normalize: choose a model without others"
        )
    names = {module.config.get(key) for module in modules[2:] for key in NORMALIZE_KEYS}
    if names - {None, "sentence_embedding"}:
        raise ExportError(
            f"{source.name} normalises something else than the text's vector; choose another model"
        )
    if read_model_config(source).get("truncate_dim"):
        raise ExportError(
            f"{source.name} shortens its vectors (truncate_dim), which is not done here; choose "
            "another model, or remove the key from its config_sentence_transformers.json"
        )


def _prompts(source: Source, modules: Sequence[Module]) -> tuple[dict[str, str], str]:
    """Return the prompts by name and the default one, or none where pooling leaves them out."""
    prompts, default = read_prompts(source) if modules else ({}, "")
    if not prompts or modules[1].config.get("include_prompt", True):
        return prompts, default
    if default:
        raise ExportError(
            f"{source.name} leaves its default prompt out of its pooling (include_prompt false), "
            "which is not done here; choose another model"
        )
    logger.warning(
        "the prompts of %s are not served: it leaves them out of its pooling", source.name
    )
    return {}, ""


def _pooling(source: Source, config: SetupConfig, modules: Sequence[Module]) -> Pooling:
    """Return the config's pooling, else the folder's, else the mean."""
    named = _named_poolings(modules[1].config) if modules else ("mean",)
    own = OURS.get(named[0]) if len(named) == 1 else None
    if config.pooling is None and own is None:
        raise ExportError(
            f"{source.name} is pooled by {' and '.join(named)}; exported are {', '.join(OURS)}, "
            "one at a time: choose another model"
        )
    if config.pooling is not None and modules and config.pooling != own:
        _warn(source, "pooling", config.pooling, " and ".join(named))
    return config.pooling or own or "mean"


def _named_poolings(pooling: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a Pooling module's poolings, as sentence_transformers' Pooling.load_config does."""
    said = pooling.get("pooling_mode")
    if said is None:
        old = [key.removeprefix(OLD_KEY) for key in pooling if key.startswith(OLD_KEY)]
        active = [name for name in old if pooling[OLD_KEY + name]]
        return tuple(OLD_NAMES.get(name, name) for name in active) or ("mean",)
    return tuple(map(str, said)) if isinstance(said, list) else (str(said),)


def _normalized(source: Source, config: SetupConfig, modules: Sequence[Module]) -> bool:
    """Return the config's setting, else whether the folder ends in Normalize."""
    own = any(module.kind == "Normalize" for module in modules)
    wanted = config.normalize_embeddings
    if wanted is not None and modules and wanted != own:
        _warn(source, "normalize_embeddings", str(wanted).lower(), str(own).lower())
    return own if wanted is None else wanted


def _warn(source: Source, key: str, wanted: str, own: str) -> None:
    sentence = "%s %s is applied, %s itself says %s: vectors differ from the model's own"
    logger.warning(sentence, key, wanted, source.name, own)
