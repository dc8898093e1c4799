"""Load the model and its tokenizer, or say in one sentence why they cannot be served."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import PreTrainedTokenizerBase

from torchscript_bundle.export.checkpoint import check_folder
from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.errors import ExportError, one_line
from torchscript_bundle.export.heads import other_mode
from torchscript_bundle.export.hub import download
from torchscript_bundle.export.tasks import Task
from torchscript_bundle.export.tokenizer_file import highest_id
from torchscript_bundle.export.tokenizer_loading import load_tokenizer, needs_remote_code

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A loaded model: eager, float32, in eval mode, on the configured device.

    `name` is the config's `model_name`, `revision` the commit of a Hub model (None for a folder),
    `folder` the model's files on this disk. The tokenizers library backs `tokenizer`.
    """

    model: Any
    tokenizer: PreTrainedTokenizerBase
    name: str
    revision: str | None
    folder: Path

    @property
    def pad_id(self) -> int:
        """The padding token: the tokenizer's, else the model's, else an end of text, else 0."""
        settings = getattr(self.model, "generation_config", None)
        of_model = [getattr(settings, f"{role}_token_id", None) for role in ("pad", "eos")]
        given = (self.tokenizer.pad_token_id, *of_model, self.tokenizer.eos_token_id)
        first = (each[0] if isinstance(each, list) else each for each in given if each is not None)
        # Old LLaMAs say -1 for none.
        return next((int(each) for each in first if each >= 0), 0)


def load_source(config: SetupConfig) -> Source:
    """Load the model that a config names, downloading it if need be."""
    _check_device(config.device)
    if config.trust_remote_code:
        logger.warning("trust_remote_code is set: Python code that comes with the model will run")
    local = config.local_model
    folder = download(config) if local is None else local
    revision = folder.name if local is None else None
    check_folder(folder, config)
    tokenizer = load_tokenizer(folder, config)
    model = _load_model(folder, config)
    _check_fit(model, tokenizer, config)
    return Source(model.to(config.device), tokenizer, config.model_name, revision, folder)


def _check_device(device: str) -> None:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device != "cpu" and (torch.device(device).index or 0) >= count:
        raise ExportError(
            f"device is {device}, torch sees {count} CUDA devices on this machine; set device to "
            "cpu or to one of them in setup_config.json"
        )


def read_model(folder: Path, config: SetupConfig) -> tuple[Any, dict[str, Any]]:
    """Load the eager model in float32 and its loading info; libraries raise errors of their own."""
    auto_class = getattr(transformers, config.task.auto_class)
    model, loading = auto_class.from_pretrained(
        str(folder),
        dtype=torch.float32,
        use_safetensors=config.use_safetensors or None,
        trust_remote_code=config.trust_remote_code,
        ignore_mismatched_sizes=True,  # the loading info names them
        output_loading_info=True,
    )
    return model.eval(), loading


def missing_weights(loading: dict[str, Any], task: Task) -> list[str]:
    """Return the names of the weights that the answers need and the files lack."""
    missing = loading["missing_keys"]
    return sorted(key for key in missing if not key.startswith(task.unused_weights))


def _load_model(folder: Path, config: SetupConfig) -> Any:
    """Load the model; every weight that its answers need must come from the checkpoint."""
    try:
        model, loading = read_model(folder, config)
    except Exception as error:  # many libraries read files here, each with errors of its own
        raise ExportError(_model_error(folder, config, error)) from error
    for key, saved, configured in sorted(loading["mismatched_keys"]):
        raise ExportError(
            f"the weights of {config.model_name} do not fit its config.json: {key} is "
            f"{list(saved)}, the config asks for {list(configured)}; correct config.json"
        )
    missing = missing_weights(loading, config.task)
    other = other_mode(folder, config.mode)
    if missing:
        raise ExportError(
            f"{config.model_name} has no weights for {', '.join(missing[:3])}"
            f"{' and more' if len(missing) > 3 else ''}: it was not trained for {config.mode} and "
            f"would answer at random; {f'{other}, or ' if other else ''}choose a model fine-tuned "
            "for it"
        )
    if other:  # heads of two modes may have weights of the same names and shapes
        raise ExportError(
            f"{config.model_name} was not trained for {config.mode}; {other}, or choose another "
            "model"
        )
    return model


def _model_error(folder: Path, config: SetupConfig, error: Exception) -> str:
    message = one_line(error)
    if "Unrecognized configuration class" in message:
        kind = message.split("configuration_")[-1].split(".")[0]
        other = other_mode(folder, config.mode) or "choose another model or another mode"
        return (
            f"{config.model_name} has the architecture {kind}, which transformers has no "
            f"{config.mode} head for; {other}"
        )
    if isinstance(error, SafetensorError):
        return (
            f"a safetensors file of {config.model_name} is damaged ({message}); "
            "delete it, then download or save it again"
        )
    return needs_remote_code(config, error) or (
        f"{config.model_name} cannot be loaded for {config.mode} ({message}); "
        "correct its files, or choose another model"
    )


def _check_fit(model: Any, tokenizer: PreTrainedTokenizerBase, config: SetupConfig) -> None:
    """Refuse lengths and token ids that the model has no embedding for."""
    limits = [tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None)]
    limit = min((value for value in limits if value and value > 0), default=config.max_length)
    if config.max_length > limit:
        raise ExportError(
            f"max_length is {config.max_length}, {config.model_name} takes at most {limit} tokens; "
            "lower max_length in setup_config.json"
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
            f"the tokenizer of {config.model_name} gives token ids up to {highest}, the model has "
            f"embeddings for {rows}; save the tokenizer that the model was trained with beside it"
        )


def quiet_transformers() -> None:
    """Silence transformers, which would draw a second progress bar for each file."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
