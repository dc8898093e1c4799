"""Refuse a model's folder that lacks a part, before a library guesses at it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.errors import ExportError

logger = logging.getLogger(__name__)

#: One of these makes a folder a model with a tokenizer.
TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "spiece.model",
    "spm.model",
)

#: A sentence-transformers folder that starts with a Router, such as one of inference-free SPLADE.
ROUTED = (
    "{} treats queries and documents differently (a sentence-transformers Router), which is not "
    "done here; choose a model with one encoder for both"
)


def check_folder(folder: Path, config: SetupConfig, *, tokenizer: bool = True) -> None:
    """Refuse a folder without a config, a tokenizer if need be, or weights that may be loaded."""
    name = config.model_name
    if not folder.is_dir():
        raise ExportError(f"{folder}: no such folder; correct model_name in setup_config.json")
    if not (folder / "config.json").is_file():
        if (folder / "router_config.json").is_file():
            raise ExportError(ROUTED.format(name))
        raise ExportError(
            f"{name} has no config.json; model_name must be a folder that save_pretrained wrote, "
            "or a transformers model on the Hub"
        )
    _check_problem(_read_config(folder, name), name)
    if tokenizer and not has_tokenizer(folder):
        raise ExportError(
            f"{name} has no tokenizer; save it into the same folder with "
            "tokenizer.save_pretrained(...)"
        )
    check_weights(folder, config, name)


def has_tokenizer(folder: Path) -> bool:
    """Return whether a folder holds the vocabulary of a tokenizer."""
    return any((folder / file).is_file() for file in TOKENIZER_FILES)


def check_weights(folder: Path, config: SetupConfig, name: str, stem: str = "*") -> None:
    """Refuse a folder without weights that may be loaded; `name` is whose, for the sentence."""
    pickled = any(folder.glob(f"{stem}.bin"))
    if any(folder.glob(f"{stem}.safetensors")):
        return
    if pickled and not config.use_safetensors:
        logger.warning("use_safetensors is false: pickled weights of %s are loaded", name)
        return
    if config.use_safetensors and (pickled or config.local_model is None):
        raise ExportError(
            f"{name} has no safetensors weights; convert it with save_pretrained, or set "
            '"use_safetensors": false if you trust its author (a pickle runs code)'
        )
    raise ExportError(f"{name} has no weights; save it with model.save_pretrained(...)")


def _read_config(folder: Path, name: str) -> dict[str, Any]:
    try:
        value = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ExportError(
            f"config.json of {name} is not a JSON object; save the model again with save_pretrained"
        )
    return value


def _check_problem(config: dict[str, Any], name: str) -> None:
    """Refuse a choice among one label: transformers fails over it wherever it reads the config."""
    labels = config.get("id2label")
    count = len(labels) if isinstance(labels, dict) else config.get("num_labels")
    if config.get("problem_type") == "single_label_classification" and count == 1:
        raise ExportError(
            f"problem_type in config.json of {name} is single_label_classification, which chooses "
            "among labels, and the model has 1; set it to multi_label_classification for a "
            "probability, or to regression for a number"
        )
