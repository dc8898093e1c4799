"""Feature extraction: a vector for each text, pooled and normalised inside the traced module.

A sentence-transformers folder says how; the tokens of a plain base model are averaged.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.modes.base import ExportMode, Given
from torchscript_bundle.export.pooling import POOLING_MASK, Normalize, SentenceHead
from torchscript_bundle.export.quality.decisions import Comparison, Item
from torchscript_bundle.export.sentence_folder import check_transformer, read_modules, read_prompts
from torchscript_bundle.export.sentence_head import Encoder, read_encoder
from torchscript_bundle.export.source import Source
from torchscript_bundle.serving.artifact import Output
from torchscript_bundle.serving.modes.mode_options import FeatureExtractionOptions

logger = logging.getLogger(__name__)

#: Least cosine between the vectors of a text in float32 and at a lower precision.
SAME_DIRECTION = 0.99


class FeatureExtraction(ExportMode):
    outputs = (Output("embedding"),)
    model_outputs = (Output("last_hidden_state", per_token=True),)

    def head(self, source: Source, config: SetupConfig) -> SentenceHead:
        return read_encoder(source, config).head()

    def further_inputs(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return (POOLING_MASK,) if FeatureExtractionOptions.read(options).unpooled else ()

    def wrap(self, model: torch.nn.Module, given: Given) -> torch.nn.Module:
        try:
            return super().wrap(model, given)
        except ValueError as error:
            raise ExportError(f"this is no text encoder: {error}; choose another model") from error

    def options(self, source: Source, config: SetupConfig) -> FeatureExtractionOptions:
        if getattr(source.model.config, "is_encoder_decoder", False):
            raise ExportError(
                f"{source.name} is an encoder with a decoder, whose last layer is the decoder's; "
                "choose a model that is an encoder or a decoder alone"
            )
        encoder = read_encoder(source, config)
        check_transformer(source, config)
        _check_save_mode(source, config, encoder)
        for note in encoder.notes:
            logger.warning("%s", note)
        prompts, default = _prompts(source, config)
        return FeatureExtractionOptions(
            pooling=encoder.pooling,
            normalized=encoder.normalized,
            prompts=prompts,
            default_prompt=default,
            unpooled=_unpooled(source, config, prompts),
        )

    def compare(self, expected: Item, actual: Item, options: Mapping[str, Any]) -> Comparison:
        """Compare the direction of the vectors; the score is their cosine."""
        [before], [after] = expected, actual
        cosine = torch.cosine_similarity(before.outputs[0], after.outputs[0], dim=0).item()
        return Comparison(1, int(cosine >= SAME_DIRECTION), (1.0 - cosine,))


def _check_save_mode(source: Source, config: SetupConfig, encoder: Encoder) -> None:
    """Refuse layers that a worker which pools by itself would not have."""
    others = {type(layer).__name__ for layer in encoder.layers} - {Normalize.__name__}
    if others and config.save_mode == "pretrained":
        raise ExportError(
            f"{source.name} has further layers after its pooling ({', '.join(sorted(others))}), "
            'which only a trace holds; set "save_mode": "torchscript"'
        )


def _prompts(source: Source, config: SetupConfig) -> tuple[dict[str, str], str]:
    """Return the prompts by name, and the text of the default one or ""."""
    prompts, default = read_prompts(source) if read_modules(source) else ({}, "")
    wanted = config.default_prompt_name
    if wanted and wanted not in prompts:
        names = f"its prompts are {', '.join(prompts)}" if prompts else "it has none"
        raise ExportError(
            f"default_prompt_name is {wanted}, which is no prompt of {source.name} ({names}); "
            "correct it in setup_config.json"
        )
    if wanted is not None and wanted != default:
        logger.warning(
            "default_prompt_name %r is applied, %s itself says %r: vectors differ from the "
            "model's own",
            wanted,
            source.name,
            default,
        )
    return prompts, prompts.get(default if wanted is None else wanted, "")


def _unpooled(source: Source, config: SetupConfig, prompts: Mapping[str, str]) -> dict[str, int]:
    """Return the tokens of each prompt, by its text, where the folder's pooling leaves them out.

    Source: sentence_transformers' Transformer._get_prompt_length.
    """
    modules = read_modules(source)
    texts = {text for text in prompts.values() if text}
    if not texts or modules[1].config.get("include_prompt", True):
        return {}
    if config.save_mode == "pretrained":
        raise ExportError(
            f"{source.name} leaves its prompts out of its pooling (include_prompt false), which "
            'only a trace does; set "save_mode": "torchscript"'
        )
    special = source.tokenizer.all_special_ids
    ids = {text: source.tokenizer(text)["input_ids"] for text in sorted(texts)}
    return {text: len(each) - (each[-1] in special) for text, each in ids.items()}
