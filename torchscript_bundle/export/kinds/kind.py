"""The base of kinds: what a folder is recognised by, and how its model is loaded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.source import Source
from torchscript_bundle.export.tokenizer_file import highest_id


class Kind(ABC):
    """A kind of folder that a model comes in."""

    @abstractmethod
    def recognises(self, folder: Path, config: SetupConfig) -> bool:
        """Return whether a folder is of this kind; it may lack files, or not exist at all."""

    @abstractmethod
    def load(self, folder: Path, revision: str | None, config: SetupConfig) -> Source:
        """Load the model on the CPU, or raise ExportError with the reason in one sentence."""

    def check_fit(self, source: Source, config: SetupConfig) -> None:
        """Refuse lengths and token ids that the model has no embedding for."""
        model, tokenizer = source.model, source.tokenizer
        limits = [
            tokenizer.model_max_length,
            getattr(model.config, "max_position_embeddings", None),
        ]
        limit = min((value for value in limits if value and value > 0), default=config.max_length)
        if config.max_length > limit:
            raise ExportError(
                f"max_length is {config.max_length}, {config.model_name} takes at most {limit} "
                "tokens; lower max_length in setup_config.json"
            )
        languages = getattr(model.config, "languages", None)
        if languages and getattr(model.config, "default_language", None) is None:
            raise ExportError(
                f"{config.model_name} speaks {', '.join(languages)}, one at a time; set "
                "default_language in its config.json to the language of the texts"
            )
        rows = model.get_input_embeddings().weight.shape[0]
        highest = highest_id(tokenizer)
        if highest >= rows:
            raise ExportError(
                f"the tokenizer of {config.model_name} gives token ids up to {highest}, the model "
                f"has embeddings for {rows}; save the tokenizer that the model was trained with "
                "beside it"
            )
