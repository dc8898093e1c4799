"""The behaviour that the export of all generative modes has in common."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.generation.facts import GeneratorFacts, read_facts
from torchscript_bundle.export.generation.maker import GeneratorProof, make_generator
from torchscript_bundle.export.modes.base import ExportMode
from torchscript_bundle.export.quality.decisions import Comparison, Item, compare_choices
from torchscript_bundle.export.source import Source
from torchscript_bundle.export.tokenizer_file import (
    check_decoding,
    cleaned_up_spaces,
    cleans_up_spaces,
)
from torchscript_bundle.serving.modes.mode_options import (
    ExampleSpelling,
    GenerationOptions,
    ModeOptions,
)

logger = logging.getLogger(__name__)


class Writer(ExportMode):
    """Exports a mode that generates text; `reads_source`: an encoder reads the text."""

    reads_source: bool

    def input_names(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
        return ("input_ids", "attention_mask")

    def padding_side(self, tokenizer: PreTrainedTokenizerBase) -> Literal["left", "right"]:
        """Return the side before a prompt: the answer continues its row."""
        return "right" if self.reads_source else "left"

    def options(self, source: Source, config: SetupConfig) -> GenerationOptions:
        """Return token ids, defaults and the chat template; ExportError if it cannot generate."""
        model, tokenizer = source.model, source.tokenizer
        if getattr(model, "generation_config", None) is None:
            raise ExportError(
                f"{source.name} has no generate of its own in transformers; choose another model"
            )
        check_decoding(tokenizer, config.samples)
        facts = self._facts(model, config, source.pad_id)
        _warn(facts, source.name)
        return GenerationOptions(
            eos_ids=list(facts.eos_ids),
            pad_id=facts.pad_id,
            start_id=facts.start_id,
            first_id=facts.first_id,
            last_id=facts.last_id,
            max_source_length=facts.max_source_length,
            defaults=dict(facts.defaults),
            chat_template=_chat_template(tokenizer.chat_template),
            special_tokens=dict(tokenizer.special_tokens_map),
            clean_up_spaces=cleans_up_spaces(tokenizer),
            default_max_new_tokens=min(config.default_max_new_tokens, config.max_length - 1),
        )

    def example_options(self, source: Source, config: SetupConfig) -> ModeOptions:
        return ExampleSpelling(cleaned_up_spaces(source.tokenizer))

    def prove(self, model: Any, config: SetupConfig, options: Mapping[str, Any]) -> GeneratorProof:
        facts = self._facts(model, config, options["pad_id"])
        # So the saved module writes into its memory without a torch.no_grad() around it.
        model.requires_grad_(False)
        return make_generator(model, facts)

    def compare(self, expected: Item, actual: Item, options: Mapping[str, Any]) -> Comparison:
        """Compare the best next token after a prompt and each token that float32 generates."""
        [before], [after] = expected, actual
        return compare_choices(before.outputs[0], after.outputs[0])

    def _facts(self, model: Any, config: SetupConfig, pad_id: int) -> GeneratorFacts:
        return read_facts(model, config.max_length, config.max_length, pad_id)


def _warn(facts: GeneratorFacts, name: str) -> None:
    """Warn where answers will differ from those of transformers' own `generate`."""
    if facts.ignored:
        logger.warning(
            "%s: its generation_config.json sets %s, which this bundle does not follow: its "
            "answers differ from those of transformers' generate",
            name,
            ", ".join(facts.ignored),
        )
    if not facts.eos_ids:
        logger.warning(
            "%s names no token that ends a text (eos_token_id in generation_config.json): every "
            "answer goes on to its max_new_tokens, or to a stop string",
            name,
        )


def _chat_template(given: Any) -> str | None:
    """Return the default template, as PreTrainedTokenizerBase.get_chat_template does."""
    chosen = given.get("default") if isinstance(given, dict) else given
    return None if chosen is None else str(chosen)
