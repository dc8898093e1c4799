"""The settings of a sentence-transformers folder: modules, limits, prompts.

Source: sentence_transformers' BaseModel._load_config_modules and Transformer.load_config. Settings
that cannot be followed exactly are refused, so that no answer differs from theirs silently.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchscript_bundle.export.checkpoint import ROUTED
from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.source import Source
from torchscript_bundle.export.tokenizer_loading import lower_cases

logger = logging.getLogger(__name__)

#: Old folders name the Transformer's settings file after the architecture.
ARCHITECTURES = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
#: Keys of that file that are followed or change no result.
FOLLOWED = ("max_seq_length", "do_lower_case", "modality_config", "unpad_inputs")
#: Values of other keys that change nothing.
USUAL = {
    "transformer_task": ("feature-extraction", "sequence-classification"),
    "module_output_name": ("token_embeddings", "scores"),
}
#: What the first module does to a text, unless its settings have a transformer_task.
FIRST = {"Transformer": "feature-extraction", "MLMTransformer": "fill-mask"}
#: Tokenizers without a limit are saved with a larger one, 10**30.
UNLIMITED = 10**6


@dataclass(frozen=True)
class Module:
    """A step of a sentence-transformers model, such as `Pooling`, its folder and config.json."""

    kind: str
    path: str
    config: dict[str, Any]


def read_modules(source: Source) -> list[Module]:
    """Return the steps, the Transformer first; none for a plain transformers folder.

    ExportError: a step is the model's own code, or the weights are in a subfolder.
    """
    listed = _read(source.folder / "modules.json", [])
    modules = [_module(source, entry) for entry in listed]
    if modules and modules[0].kind == "Router":
        raise ExportError(ROUTED.format(source.name))
    if modules and modules[0].kind not in FIRST:
        raise ExportError(
            f"{source.name} starts with the sentence-transformers module {modules[0].kind}, which "
            "cannot be exported; choose a model that starts with a Transformer"
        )
    if modules and listed[0].get("path"):
        raise ExportError(
            f"modules.json of {source.name} has its Transformer in the folder "
            f"{listed[0]['path']!r}; save the model again with a newer sentence-transformers"
        )
    return modules


def _module(source: Source, entry: Any) -> Module:
    path = source.folder / "modules.json"
    if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
        raise ExportError(f"{path}: an entry has no type; save the model again")
    if not entry["type"].startswith("sentence_transformers."):
        raise ExportError(
            f"{source.name} runs code of its own in sentence-transformers ({entry['type']}), which "
            "cannot be followed exactly; choose another model"
        )
    folder = str(entry.get("path") or "")
    if not (source.folder / folder).resolve().is_relative_to(source.folder.resolve()):
        raise ExportError(f"{path}: {folder} is outside of the model's folder; correct it")
    config = _read(source.folder / folder / "config.json", {}) if folder else {}
    return Module(entry["type"].rpartition(".")[2], folder, config)


def check_transformer(source: Source, config: SetupConfig, task: str | None = None) -> None:
    """Refuse a max_length above the folder's, and settings that would change texts or results.

    `task` is the transformer_task that the folder must have, where only one will do.
    """
    modules = read_modules(source)
    settings = _transformer_settings(source) if modules else {}
    if modules and task is not None:
        found = settings.pop("transformer_task", FIRST[modules[0].kind])
        if found != task:
            raise ExportError(
                f"the first module of {source.name} does {found} (transformer_task); this mode "
                f"needs {task}: choose another model"
            )
    for key, value in settings.items():
        if value and key not in FOLLOWED and value not in USUAL.get(key, ()):
            raise ExportError(
                f"{source.name} sets {key} for sentence-transformers, which is not done here; "
                "choose another model"
            )
    if set(settings.get("modality_config") or {"text": {}}) != {"text"}:
        raise ExportError(
            f"{source.name} gives its texts to sentence-transformers as chats or with images "
            "(modality_config), which is not done here; choose another model"
        )
    if settings.get("do_lower_case") and not lower_cases(source.tokenizer):
        raise ExportError(
            f"{source.name} has its texts lower-cased by sentence-transformers (do_lower_case), "
            "and its tokenizer keeps case; save it with a tokenizer that lower-cases"
        )
    _check_length(source, config, settings.get("max_seq_length"))


def _transformer_settings(source: Source) -> dict[str, Any]:
    paths = [source.folder / f"sentence_{name}_config.json" for name in ARCHITECTURES]
    found = next((path for path in paths if path.is_file()), None)
    return {} if found is None else dict(_read(found, {}))


def _check_length(source: Source, config: SetupConfig, max_seq_length: int | None) -> None:
    if max_seq_length and config.max_length > max_seq_length:
        raise ExportError(
            f"max_length is {config.max_length}, {source.name} was made for {max_seq_length} "
            "tokens (max_seq_length) and sentence-transformers cuts texts there; lower max_length "
            "in setup_config.json"
        )
    positions = getattr(source.model.config, "max_position_embeddings", None) or UNLIMITED
    limit = max_seq_length or min(source.tokenizer.model_max_length, positions)
    if config.max_length < limit < UNLIMITED:
        logger.warning(
            "max_length is %d, sentence-transformers cuts the texts of %s at %d tokens: longer "
            "ones get other answers than there; set max_length to %d to be equal",
            config.max_length,
            source.name,
            limit,
            limit,
        )


def read_model_config(source: Source) -> dict[str, Any]:
    """Return `config_sentence_transformers.json`; empty where there is none."""
    return dict(_read(source.folder / "config_sentence_transformers.json", {}))


def read_prompts(source: Source) -> tuple[dict[str, str], str]:
    """Return the prompts by name, and the name of the default one or ""."""
    settings = read_model_config(source)
    prompts = settings.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(v, str) for v in prompts.values()):
        raise ExportError(
            f"the prompts of {source.name} are no strings by name; correct its "
            "config_sentence_transformers.json"
        )
    default = settings.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise ExportError(
            f"default_prompt_name of {source.name} is none of its prompts; correct its "
            "config_sentence_transformers.json"
        )
    return prompts, default or ""


def _read(path: Path, default: Any) -> Any:
    """Return the JSON in a file, of the default's type; the default where there is no file."""
    if not path.is_file():
        return default
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExportError(f"{path}: not JSON ({error}); save the model again") from error
    if not isinstance(value, type(default)):
        kind = "a list" if isinstance(default, list) else "an object"
        raise ExportError(f"{path}: must be {kind}; save the model again")
    return value
