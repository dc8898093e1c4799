"""What the modes have in common whose models write: all but the head and where samples are."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.generation.facts import GeneratorFacts, read_facts
from torchscript_bundle.export.generation.generation_proof import WritingProof, writing_proof
from torchscript_bundle.export.generation.maker import make_generator
from torchscript_bundle.export.modes.base import Pairs
from torchscript_bundle.export.quality.decisions import Comparison, Item, compare_choices
from torchscript_bundle.export.tokenizer import check_decoding, cleans_up_spaces
from torchscript_bundle.serving.artifact import Output

if TYPE_CHECKING:
    from torchscript_bundle.export.config import SetupConfig
    from torchscript_bundle.export.source import Source

logger = logging.getLogger(__name__)


class Writer:
    """A mode as `export.modes.base.Writes` has it; a subclass names its head.

    Attributes:
        reads_source: whether an encoder reads the text, so that the answer has places of its own.
    """

    reads_source: bool

    inputs = ("input_ids", "attention_mask")
    outputs = (Output("logits"),)
    pairs: Pairs = "never"
    explained = False
    precisions = ("float32", "bfloat16")
    settings = ("max_batch_tokens", "default_max_new_tokens")
    unused_weights = ()

    def labels(self, model_config: Any, num_labels: int | None, artifacts: Path) -> tuple[str, ...]:
        """None: the vocabulary takes their place."""
        return ()

    @property
    def padding_side(self) -> Literal["left", "right"]:
        """See `Writes`: what is written on ends its row."""
        return "right" if self.reads_source else "left"

    def request_tokens(self, max_length: int) -> int:
        """See `Writes`."""
        return 2 * max_length if self.reads_source else max_length

    def options(self, source: Source, config: SetupConfig) -> dict[str, Any]:
        """Where answers begin and end, how they are drawn and spelled, how messages become a text.

        Raises:
            ExportError: the model cannot write, or its tokenizer cannot spell without transformers.
        """
        model, tokenizer = source.model, source.tokenizer
        if getattr(model, "generation_config", None) is None:
            raise ExportError(
                f"{source.name} has no generate of its own in transformers; choose another model"
            )
        check_decoding(tokenizer, config.samples)
        facts = self._facts(model, config, source.pad_id)
        _tell(facts, source.name)
        return {
            "eos_ids": list(facts.eos_ids),
            "pad_id": facts.pad_id,
            "start_id": facts.start_id,
            "first_id": facts.first_id,
            "last_id": facts.last_id,
            "max_source_length": facts.max_source_length,
            "defaults": dict(facts.defaults),
            "chat_template": _chat_template(tokenizer.chat_template),
            "special_tokens": dict(tokenizer.special_tokens_map),
            "clean_up_spaces": cleans_up_spaces(tokenizer),
            "default_max_new_tokens": min(config.default_max_new_tokens, config.max_length - 1),
        }

    def prove(self, model: Any, config: SetupConfig, options: Mapping[str, Any]) -> WritingProof:
        """See `Writes`."""
        facts = self._facts(model, config, options["pad_id"])
        # What is saved then writes into its memory without a torch.no_grad() around it.
        model.requires_grad_(False)
        return writing_proof(model, make_generator(model, facts))

    def compare(self, expected: Item, actual: Item, options: Mapping[str, Any]) -> Comparison:
        """The best next token after a prompt and after each token that float32 writes there."""
        [before], [after] = expected, actual
        return compare_choices(before.outputs[0], after.outputs[0])

    def _facts(self, model: Any, config: SetupConfig, pad_id: int) -> GeneratorFacts:
        return read_facts(model, config.max_length, config.max_length, pad_id)


def _tell(facts: GeneratorFacts, name: str) -> None:
    """Says where answers will differ from those of transformers' own `generate`."""
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
    """The template that transformers takes where none is named; None where there is none.

    Source: PreTrainedTokenizerBase.get_chat_template.
    """
    chosen = given.get("default") if isinstance(given, dict) else given
    return None if chosen is None else str(chosen)
