"""A loaded model and its tokenizer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import transformers
from transformers import PreTrainedTokenizerBase

from torchscript_bundle.export.pooling import SentenceHead


@dataclass(frozen=True)
class Source:
    """A loaded model: eager, float32, in eval mode, on the configured device.

    Attributes:
        tokenizer: backed by the tokenizers library.
        name: the config's `model_name`.
        revision: the commit of a Hub model; None for a folder.
        folder: the model's files on this disk.
        head: what follows the transformer, where that is not in `model` itself.
        base: name and revision of the model that an adapter was merged into.
    """

    model: Any
    tokenizer: PreTrainedTokenizerBase
    name: str
    revision: str | None
    folder: Path
    head: SentenceHead | None = None
    base: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def pad_id(self) -> int:
        """The padding token: the tokenizer's, else the model's, else an end of text, else 0."""
        settings = getattr(self.model, "generation_config", None)
        of_model = [getattr(settings, f"{role}_token_id", None) for role in ("pad", "eos")]
        given = (self.tokenizer.pad_token_id, *of_model, self.tokenizer.eos_token_id)
        first = (each[0] if isinstance(each, list) else each for each in given if each is not None)
        # Old LLaMAs say -1 for none.
        return next((int(each) for each in first if each >= 0), 0)


def quiet_transformers() -> None:
    """Silence transformers, which would draw a second progress bar for each file."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
