"""The model and its tokenizer, from the Hub or from a folder, or one sentence that says why not."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import PreTrainedTokenizerBase

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.modes import MODES

logger = logging.getLogger(__name__)

#: What a model needs besides its weights: configs, vocabularies, tokenizer files.
SMALL_FILES = ["*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja"]
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


@dataclass(frozen=True)
class Source:
    """A loaded model.

    Attributes:
        model: eager, float32, eval mode, on the configured device.
        tokenizer: backed by the tokenizers library.
        name: `model_name` as the config has it.
        revision: commit of a Hub model, None for a folder.
    """

    model: Any
    tokenizer: PreTrainedTokenizerBase
    name: str
    revision: str | None


def load_source(config: SetupConfig) -> Source:
    """Downloads if need be, and loads.

    Raises:
        ExportError: the model cannot be had, or is not one that the config's mode can use.
    """
    if config.trust_remote_code:
        logger.warning("trust_remote_code is set: Python code that comes with the model will run")
    local = config.local_model
    folder = _download(config) if local is None else local
    revision = folder.name if local is None else None
    _check_folder(folder, config)
    tokenizer = _load_tokenizer(folder, config)
    model = _load_model(folder, config)
    _check_fit(model, tokenizer, config)
    return Source(model.to(config.device), tokenizer, config.model_name, revision)


def _download(config: SetupConfig) -> Path:
    """The Hub model's files in the local cache; huggingface_hub shows progress and retries.

    HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE are respected by huggingface_hub itself.
    """
    name, revision = config.model_name, config.revision or "main"
    patterns = [*SMALL_FILES, "*.safetensors"]
    patterns += [] if config.use_safetensors else ["*.bin"]
    patterns += ["*.py"] if config.trust_remote_code else []
    # Some models keep copies of their weights for other frameworks in subfolders.
    ignored = ["onnx/*", "openvino/*", "coreml/*"]
    try:
        return Path(
            snapshot_download(
                name, revision=revision, allow_patterns=patterns, ignore_patterns=ignored
            )
        )
    except GatedRepoError as error:
        raise ExportError(
            f"{name} is gated: accept its licence on the Hub, then set HF_TOKEN to your token"
        ) from error
    except RevisionNotFoundError as error:
        raise ExportError(
            f"{name} has no revision {revision!r}; correct revision in setup_config.json"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ExportError(
            f"{name} is neither a folder ({config.folder / name}) nor a model on the Hub; correct "
            "model_name in setup_config.json (a private model also needs HF_TOKEN)"
        ) from error
    except Exception as error:  # the HTTP library's own, a page that is not a Hub's, a full disk
        raise ExportError(_not_fetched(name, error)) from error


def _not_fetched(name: str, error: Exception) -> str:
    if constants.HF_HUB_OFFLINE:
        return f"{name} is not in the local cache and HF_HUB_OFFLINE is set; unset it to download"
    # "Not in the cache either" is what huggingface_hub raises; what the Hub did is its cause.
    cause = error.__cause__ or error
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if status in (401, 403):
        return (
            f"the Hub refuses {name} to HF_TOKEN (HTTP {status}); set HF_TOKEN to a valid token "
            "that may read it, or unset it for a public model"
        )
    if isinstance(cause, OSError) and cause.errno is not None:
        return (
            f"{name} cannot be stored in the cache {constants.HF_HUB_CACHE} ({cause.strerror}); "
            "make room there, or set HF_HOME to another folder"
        )
    why = f"HTTP {status}" if status else f"{type(cause).__name__}: {_one_line(cause)}"
    return (
        f"{name} could not be fetched from the Hub at {constants.ENDPOINT} ({why}); "
        "check the network and HF_ENDPOINT, or give a local folder as model_name"
    )


def _check_folder(folder: Path, config: SetupConfig) -> None:
    """Refuses a folder that lacks a part, before a library guesses at it."""
    name = config.model_name
    if not folder.is_dir():
        raise ExportError(f"{folder}: no such folder; correct model_name in setup_config.json")
    if not (folder / "config.json").is_file():
        raise ExportError(
            f"{name} has no config.json; model_name must be a folder that save_pretrained wrote, "
            "or a transformers model on the Hub"
        )
    if not any((folder / file).is_file() for file in TOKENIZER_FILES):
        raise ExportError(
            f"{name} has no tokenizer; save it into the same folder with "
            "tokenizer.save_pretrained(...)"
        )
    if config.use_safetensors and not any(folder.glob("*.safetensors")):
        pickled = any(folder.glob("*.bin"))
        fix = (
            'convert it with save_pretrained, or set "use_safetensors": false if you trust its '
            "author (a pickle runs code)"
            if pickled or config.local_model is None
            else "save it with save_pretrained"
        )
        raise ExportError(f"{name} has no safetensors weights; {fix}")


def _load_tokenizer(folder: Path, config: SetupConfig) -> PreTrainedTokenizerBase:
    """The tokenizer; it must be backed by the tokenizers library, which serving uses alone."""
    options = {} if config.do_lower_case is None else {"do_lower_case": config.do_lower_case}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=config.trust_remote_code, **options
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ExportError(
            f"the tokenizer of {config.model_name} cannot be loaded: {_one_line(error)}"
        ) from error
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise ExportError(
            f"the tokenizer of {config.model_name} ({type(tokenizer).__name__}) is not backed by "
            "the tokenizers library, so it cannot be served without transformers; convert it to a "
            "tokenizer.json"
        )
    if tokenizer.pad_token_id is None:
        raise ExportError(
            f"the tokenizer of {config.model_name} has no padding token; set one "
            "(tokenizer.pad_token, and pad_token_id in the model's config) and save both"
        )
    return tokenizer


def _load_model(folder: Path, config: SetupConfig) -> Any:
    """The eager model in float32, every one of its weights from the checkpoint."""
    auto_class = getattr(transformers, MODES[config.mode].auto_class)
    try:
        model, loading = auto_class.from_pretrained(
            str(folder),
            dtype=torch.float32,
            use_safetensors=config.use_safetensors or None,
            trust_remote_code=config.trust_remote_code,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ExportError(_model_error(config, error)) from error
    missing = sorted(loading["missing_keys"])
    if missing:
        raise ExportError(
            f"{config.model_name} has no weights for {', '.join(missing[:3])}"
            f"{' and more' if len(missing) > 3 else ''}: it was not trained for {config.mode} and "
            "would answer at random; choose a model fine-tuned for it"
        )
    return model.eval()


def _model_error(config: SetupConfig, error: Exception) -> str:
    message = _one_line(error)
    if "Unrecognized configuration class" in message:
        kind = message.split("configuration_")[-1].split(".")[0]
        return (
            f"{config.model_name} has the architecture {kind}, which transformers has no "
            f"{config.mode} head for; choose another model or another mode"
        )
    if "trust_remote_code" in message:
        return (
            f"{config.model_name} needs Python code of its own; set "
            '"trust_remote_code": true if you trust its author'
        )
    return f"{config.model_name} cannot be loaded for {config.mode}: {message}"


def _check_fit(model: Any, tokenizer: PreTrainedTokenizerBase, config: SetupConfig) -> None:
    """Refuses lengths and token ids that the model has no embedding for."""
    limits = [tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None)]
    limit = min((value for value in limits if value and value > 0), default=config.max_length)
    if config.max_length > limit:
        raise ExportError(
            f"max_length is {config.max_length}, {config.model_name} takes at most {limit} tokens; "
            "lower max_length in setup_config.json"
        )
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise ExportError(
            f"the tokenizer of {config.model_name} has {len(tokenizer)} tokens, the model has "
            f"embeddings for {rows}; they do not belong together"
        )


def _one_line(error: Exception) -> str:
    """The first sentence or line of a library's message, without its advice for other programs."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return first[:300] or type(error).__name__


def quiet_transformers() -> None:
    """Leaves progress and warnings to us: transformers would draw a second bar for each file."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
