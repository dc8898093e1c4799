"""The model and its tokenizer, from the Hub or from a folder, or one sentence that says why not."""

from __future__ import annotations

import json
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
from safetensors import SafetensorError
from transformers import PreTrainedTokenizerBase

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.errors import ExportError, one_line
from torchscript_bundle.export.heads import other_mode
from torchscript_bundle.export.modes import MODES
from torchscript_bundle.export.tokenizer import highest_id, lower_cases, set_lower_case

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
        folder: the model's files on this disk.
    """

    model: Any
    tokenizer: PreTrainedTokenizerBase
    name: str
    revision: str | None
    folder: Path

    @property
    def pad_id(self) -> int:
        """The token that fills rows: the tokenizer's, else the model's, else what ends a text.

        Without any of these it is token 0: then the mask alone says what is padding.
        """
        settings = getattr(self.model, "generation_config", None)
        of_model = [getattr(settings, f"{role}_token_id", None) for role in ("pad", "eos")]
        given = (self.tokenizer.pad_token_id, *of_model, self.tokenizer.eos_token_id)
        first = (each[0] if isinstance(each, list) else each for each in given if each is not None)
        # Old LLaMAs say -1 for none, which has no embedding.
        return next((int(each) for each in first if each >= 0), 0)


def load_source(config: SetupConfig) -> Source:
    """Downloads if need be, and loads.

    Raises:
        ExportError: the model cannot be had, or is not one that the config's mode can use.
    """
    _check_device(config.device)
    if config.trust_remote_code:
        logger.warning("trust_remote_code is set: Python code that comes with the model will run")
    local = config.local_model
    folder = _download(config) if local is None else local
    revision = folder.name if local is None else None
    _check_folder(folder, config)
    tokenizer = _load_tokenizer(folder, config)
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
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
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
    why = f"HTTP {status}" if status else f"{type(cause).__name__}: {one_line(cause)}"
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
    if not _is_json_object(folder / "config.json"):
        raise ExportError(
            f"config.json of {name} is not a JSON object; save the model again with save_pretrained"
        )
    _check_problem(folder, name)
    if not any((folder / file).is_file() for file in TOKENIZER_FILES):
        raise ExportError(
            f"{name} has no tokenizer; save it into the same folder with "
            "tokenizer.save_pretrained(...)"
        )
    pickled = any(folder.glob("*.bin"))
    if any(folder.glob("*.safetensors")) or (pickled and not config.use_safetensors):
        return
    if config.use_safetensors and (pickled or config.local_model is None):
        raise ExportError(
            f"{name} has no safetensors weights; convert it with save_pretrained, or set "
            '"use_safetensors": false if you trust its author (a pickle runs code)'
        )
    raise ExportError(f"{name} has no weights; save it with model.save_pretrained(...)")


def _check_problem(folder: Path, name: str) -> None:
    """Refuse a choice among one label: transformers fails over it in all that reads the config."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    labels = config.get("id2label")
    count = len(labels) if isinstance(labels, dict) else config.get("num_labels")
    if config.get("problem_type") == "single_label_classification" and count == 1:
        raise ExportError(
            f"problem_type in config.json of {name} is single_label_classification, which chooses "
            "among labels, and the model has 1; set it to multi_label_classification for a "
            "probability, or to regression for a number"
        )


def _is_json_object(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_text(encoding="utf-8")), dict)
    except ValueError:
        return False


def _load_tokenizer(folder: Path, config: SetupConfig) -> PreTrainedTokenizerBase:
    """The tokenizer; it must be backed by the tokenizers library, which serving uses alone."""
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
    # Where a model writes, padding is masked in every pass: any token will do.
    if tokenizer.pad_token_id is None and not MODES[config.mode].generates:
        raise ExportError(
            f"the tokenizer of {config.model_name} has no padding token; set one "
            "(tokenizer.pad_token, and pad_token_id in the model's config) and save both"
        )
    wanted = config.do_lower_case
    if wanted is None or wanted == lower_cases(tokenizer):
        return tokenizer
    return _with_case(folder, config, wanted)


def _auto_tokenizer(folder: Path, config: SetupConfig, **options: bool) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = transformers.AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=config.trust_remote_code, **options
        )
    except Exception as error:  # many libraries read files here, each with errors of its own
        raise ExportError(
            _remote_code(config, error)
            or f"the tokenizer of {config.model_name} cannot be loaded ({one_line(error)}); "
            "correct its config.json and tokenizer files, or save both again"
        ) from error
    return tokenizer


def _with_case(folder: Path, config: SetupConfig, wanted: bool) -> PreTrainedTokenizerBase:
    """The tokenizer with another `do_lower_case` than its own."""
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


def read_model(folder: Path, config: SetupConfig) -> tuple[Any, dict[str, Any]]:
    """The eager model in float32, for the config's mode, and what transformers says of its weights.

    Raises:
        Exception: many libraries read files here, each with errors of its own.
    """
    auto_class = getattr(transformers, MODES[config.mode].auto_class)
    model, loading = auto_class.from_pretrained(
        str(folder),
        dtype=torch.float32,
        use_safetensors=config.use_safetensors or None,
        trust_remote_code=config.trust_remote_code,
        ignore_mismatched_sizes=True,  # the loading info names them
        output_loading_info=True,
    )
    return model.eval(), loading


def missing_weights(loading: dict[str, Any], mode: str) -> list[str]:
    """Names of the weights that the answers need and the files lack."""
    unused = tuple(MODES[mode].unused_weights)
    return sorted(key for key in loading["missing_keys"] if not key.startswith(unused))


def _load_model(folder: Path, config: SetupConfig) -> Any:
    """The model, every weight that its answers need from the checkpoint."""
    try:
        model, loading = read_model(folder, config)
    except Exception as error:  # many libraries read files here, each with errors of its own
        raise ExportError(_model_error(folder, config, error)) from error
    for key, saved, configured in sorted(loading["mismatched_keys"]):
        raise ExportError(
            f"the weights of {config.model_name} do not fit its config.json: {key} is "
            f"{list(saved)}, the config asks for {list(configured)}; correct config.json"
        )
    missing = missing_weights(loading, config.mode)
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
    return _remote_code(config, error) or (
        f"{config.model_name} cannot be loaded for {config.mode} ({message}); "
        "correct its files, or choose another model"
    )


def _remote_code(config: SetupConfig, error: Exception) -> str | None:
    """What to do about an error that asks for trust_remote_code; None for another error."""
    if config.trust_remote_code or "trust_remote_code" not in str(error):
        return None
    return (
        f"{config.model_name} needs Python code of its own; set "
        '"trust_remote_code": true if you trust its author'
    )


def _check_fit(model: Any, tokenizer: PreTrainedTokenizerBase, config: SetupConfig) -> None:
    """Refuses lengths and token ids that the model has no embedding for."""
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
    """Leaves progress and warnings to us: transformers would draw a second bar for each file."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
