"""Load a tokenizer that a worker can use without transformers, lower-casing as the config asks."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import transformers
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.errors import ExportError, one_line

logger = logging.getLogger(__name__)


def load_tokenizer(folder: Path, config: SetupConfig) -> PreTrainedTokenizerBase:
    """Load the tokenizer; the tokenizers library, which serving uses alone, must back it."""
    tokenizer = _auto_tokenizer(folder, config)
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise ExportError(
            f"the tokenizer of {config.model_name} ({type(tokenizer).__name__}) is not backed by "
            "the tokenizers library, so it cannot be served without transformers; convert it to a "
            "tokenizer.json"
        )
    ordinary = set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids)
    if len(ordinary) < 2:  # what transformers makes up where it finds no vocabulary
        raise ExportError(
            f"the tokenizer of {config.model_name} has no vocabulary: the folder lacks the file "
            f"that {type(tokenizer).__name__} reads; save it there with "
            "tokenizer.save_pretrained(...)"
        )
    # A model that generates masks padding in every pass: any token will do.
    if tokenizer.pad_token_id is None and not config.task.generates:
        raise ExportError(
            f"the tokenizer of {config.model_name} has no padding token; set one "
            "(tokenizer.pad_token, and pad_token_id in the model's config) and save both"
        )
    wanted = config.do_lower_case
    if wanted is None or wanted == lower_cases(tokenizer):
        return tokenizer
    return _load_with_case(folder, config, wanted)


def _auto_tokenizer(folder: Path, config: SetupConfig, **options: bool) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = transformers.AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=config.trust_remote_code, **options
        )
    except Exception as error:  # many libraries read files here, each with errors of its own
        raise ExportError(
            needs_remote_code(config, error)
            or f"the tokenizer of {config.model_name} cannot be loaded ({one_line(error)}); "
            "correct its config.json and tokenizer files, or save both again"
        ) from error
    return tokenizer


def _load_with_case(folder: Path, config: SetupConfig, wanted: bool) -> PreTrainedTokenizerBase:
    """Load the tokenizer with another `do_lower_case` than its own."""
    name, setting = config.model_name, f"do_lower_case {str(wanted).lower()}"
    tokenizer = _auto_tokenizer(folder, config, do_lower_case=wanted)
    set_lower_case(tokenizer, wanted)  # some classes ignore the option
    if lower_cases(tokenizer) != wanted:
        does = "keeps case and has no step to lower it"
        logger.warning(
            "%s is not applied: the tokenizer of %s %s",
            setting,
            name,
            does if wanted else "lower-cases in a step that cannot be turned off",
        )
        return tokenizer
    logger.warning(
        "%s is applied, the tokenizer of %s %s by itself: answers differ from the model's own",
        setting,
        name,
        "keeps case" if wanted else "lower-cases",
    )
    return tokenizer


def needs_remote_code(config: SetupConfig, error: Exception) -> str | None:
    """Return what to do about an error that asks for trust_remote_code; None for another error."""
    if config.trust_remote_code or "trust_remote_code" not in str(error):
        return None
    return (
        f"{config.model_name} needs Python code of its own; set "
        '"trust_remote_code": true if you trust its author'
    )


def lower_cases(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether the tokenizer lower-cases, tried on a letter."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    return normalizer is not None and "A" not in normalizer.normalize_str("A")


def set_lower_case(tokenizer: PreTrainedTokenizerBase, wanted: bool) -> None:
    """Turn the steps of the normalizer that lower-case on or off, where it has any."""
    backend = tokenizer.backend_tokenizer
    state = json.loads(backend.to_str())
    state["normalizer"] = _with_case(state["normalizer"], wanted)
    backend.normalizer = Tokenizer.from_str(json.dumps(state)).normalizer


def _with_case(step: dict[str, Any] | None, wanted: bool) -> dict[str, Any] | None:
    """Edit a step of the normalizer in tokenizer.json; return None to leave it out."""
    if step is None or (step["type"] == "Lowercase" and not wanted):
        return None
    if step["type"] == "BertNormalizer":
        return {**step, "lowercase": wanted}
    if step["type"] == "Sequence":
        steps = [_with_case(each, wanted) for each in step["normalizers"]]
        return {**step, "normalizers": [each for each in steps if each is not None]}
    return step
