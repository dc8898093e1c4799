"""A folder that `save_pretrained` wrote, as every model of transformers comes."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES as ENCODERS

from torchscript_bundle.export.checkpoint import check_folder
from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.errors import ExportError, one_line
from torchscript_bundle.export.heads import NO_HEAD, other_mode, saved_class
from torchscript_bundle.export.kinds.kind import Kind
from torchscript_bundle.export.source import Source
from torchscript_bundle.export.tasks import Task
from torchscript_bundle.export.tokenizer_loading import load_tokenizer, needs_remote_code


class TransformersFolder(Kind):
    def recognises(self, folder: Path, config: SetupConfig) -> bool:
        return True

    def load(self, folder: Path, revision: str | None, config: SetupConfig) -> Source:
        check_folder(folder, config)
        tokenizer = load_tokenizer(folder, config)
        model = load_model(folder, config)
        return Source(model, tokenizer, config.model_name, revision, folder)


def read_model(
    folder: Path, config: SetupConfig, num_labels: int | None = None
) -> tuple[Any, dict[str, Any]]:
    """Load the eager model in float32 and its loading info; libraries raise errors of their own.

    `num_labels` is the size of a head that is loaded later; None for the checkpoint's own.
    """
    auto_class = getattr(transformers, auto_class_for(config.task, saved_class(folder)))
    model, loading = auto_class.from_pretrained(
        str(folder),
        dtype=torch.float32,
        use_safetensors=config.use_safetensors or None,
        trust_remote_code=config.trust_remote_code,
        ignore_mismatched_sizes=True,  # the loading info names them
        output_loading_info=True,
        **({} if num_labels is None else {"num_labels": num_labels}),
    )
    return model.eval(), loading


def auto_class_for(task: Task, class_name: str | None) -> str:
    """Return the Auto class of a task; an encoder that was saved without its decoder has another.

    `class_name` is what the checkpoint was saved from, such as `T5EncoderModel`.
    """
    alone = class_name is not None and class_name.endswith("EncoderModel")
    if task.auto_class == NO_HEAD and alone and class_name in ENCODERS.values():
        return "AutoModelForTextEncoding"
    return task.auto_class


def missing_weights(loading: dict[str, Any], task: Task) -> list[str]:
    """Return the names of the weights that the answers need and the files lack."""
    missing = loading["missing_keys"]
    return sorted(key for key in missing if not key.startswith(task.unused_weights))


def load_model(
    folder: Path,
    config: SetupConfig,
    *,
    later: Set[str] = frozenset(),
    num_labels: int | None = None,
) -> Any:
    """Load the model; every weight that its answers need must come from the checkpoint.

    `later` names weights that another file has, such as the head of an adapter.
    """
    try:
        model, loading = read_model(folder, config, num_labels)
    except Exception as error:  # many libraries read files here, each with errors of its own
        raise ExportError(_model_error(folder, config, error)) from error
    for key, saved, configured in sorted(loading["mismatched_keys"]):
        if key in later:
            continue
        raise ExportError(
            f"the weights of {config.model_name} do not fit its config.json: {key} is "
            f"{list(saved)}, the config asks for {list(configured)}; correct config.json"
        )
    missing = [key for key in missing_weights(loading, config.task) if key not in later]
    other = None if later else other_mode(folder, config.mode)
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
