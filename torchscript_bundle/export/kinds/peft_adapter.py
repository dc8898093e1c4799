"""An adapter of PEFT, such as LoRA: it is merged into its base model before anything is traced."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from torchscript_bundle.export.checkpoint import check_folder, check_weights, has_tokenizer
from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.errors import ExportError, one_line
from torchscript_bundle.export.hub import find_folder
from torchscript_bundle.export.inputs import input_names
from torchscript_bundle.export.kinds.kind import Kind
from torchscript_bundle.export.kinds.transformers_folder import load_model
from torchscript_bundle.export.source import Source
from torchscript_bundle.export.tasks import TASKS
from torchscript_bundle.export.tokenizer_loading import load_tokenizer

logger = logging.getLogger(__name__)

CONFIG_FILE = "adapter_config.json"
#: Stem of the file of weights, `.safetensors` or `.bin`.
WEIGHTS = "adapter_model"
#: What names of the base model's weights start with in that file.
PREFIX = "base_model.model."
#: PEFT's names of tasks -> the Auto class of such a model.
AUTO_CLASSES = {
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "FEATURE_EXTRACTION": "AutoModel",
}
#: Keys that peft follows by importing a module that they name, or that cannot be merged.
REFUSED = ("megatron_config", "alora_invocation_tokens")
#: Largest difference of the merged model's outputs, relative to their scale: sums are rounded
#: otherwise.
TOLERANCE = 1e-4
#: Tokens of the text on which they are compared.
TRIED_TOKENS = 32


class PeftAdapter(Kind):
    def recognises(self, folder: Path, config: SetupConfig) -> bool:
        if (folder / CONFIG_FILE).is_file() or config.adapter_name or config.base_model:
            return True
        return not (folder / "config.json").is_file() and bool(_several(folder))

    def load(self, folder: Path, revision: str | None, config: SetupConfig) -> Source:
        peft = _import_peft(config)
        place = _place(folder, config)
        facts = _read_facts(place, config)
        check_weights(place, config, f"the adapter {config.model_name}", WEIGHTS)
        base_config = _base_config(facts, config)
        base_folder, base_revision = find_folder(base_config)
        tokenized = has_tokenizer(place)
        check_folder(base_folder, base_config, tokenizer=not tokenized)
        # Trust is in the base model's code.
        untrusted = config.model_copy(update={"trust_remote_code": False})
        tokenizer = (
            load_tokenizer(place, untrusted)
            if tokenized
            else load_tokenizer(base_folder, base_config)
        )
        shapes = _shapes(peft, place, config)
        labels = _num_labels(base_folder, base_config, shapes)
        model = load_model(base_folder, base_config, later=shapes.keys(), num_labels=labels)
        _resize(model, shapes)
        encoding = tokenizer(config.samples[0], return_tensors="pt")
        names = input_names(model, tokenizer)
        inputs = {name: encoding[name][:, :TRIED_TOKENS] for name in names}
        merged = _merge(peft, model, place, config, inputs)
        logger.info("      merged into %s", base_config.model_name)
        return Source(
            merged,
            tokenizer,
            config.model_name,
            revision,
            place if (place / "modules.json").is_file() else base_folder,
            base={"base_model": base_config.model_name, "base_revision": base_revision},
        )


def _several(folder: Path) -> list[str]:
    """Return the names of the adapters in subfolders."""
    return sorted(path.parent.name for path in folder.glob(f"*/{CONFIG_FILE}"))


def _place(folder: Path, config: SetupConfig) -> Path:
    """Return the folder of the adapter that the config names."""
    if not folder.is_dir():
        raise ExportError(f"{folder}: no such folder; correct model_name in setup_config.json")
    wanted, several = config.adapter_name, _several(folder)
    if wanted in several:
        return folder / str(wanted)
    if (folder / CONFIG_FILE).is_file() and wanted in (None, "default"):
        return folder
    if not several and not (folder / CONFIG_FILE).is_file():
        raise ExportError(
            f"{config.model_name} holds no adapter (no {CONFIG_FILE}); give the adapter as "
            "model_name, or remove adapter_name and base_model from setup_config.json"
        )
    names = ", ".join(several) or '"default" alone'
    raise ExportError(
        f"adapter_name is {json.dumps(wanted)}, {config.model_name} holds the adapters {names}; "
        "set adapter_name in setup_config.json to one of them"
    )


def _read_facts(place: Path, config: SetupConfig) -> dict[str, Any]:
    """Return adapter_config.json, if such an adapter can be merged for the config's mode."""
    path = place / CONFIG_FILE
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        raise ExportError(f"{path}: must be a JSON object; save the adapter again")
    for key in REFUSED:
        if facts.get(key):
            raise ExportError(
                f"the adapter {config.model_name} has {key}, with which it cannot be merged; "
                "choose another adapter"
            )
    auto_class = AUTO_CLASSES.get(str(facts.get("task_type")))
    if auto_class not in (None, config.task.auto_class):
        modes = [name for name, task in TASKS.items() if task.auto_class == auto_class]
        raise ExportError(
            f"the adapter {config.model_name} was trained for {facts['task_type']}, not for "
            f"{config.mode}; set mode to {' or '.join(modes)}, or choose another adapter"
        )
    return facts


def _base_config(facts: Mapping[str, Any], config: SetupConfig) -> SetupConfig:
    """Return the config of the base model: the one that the config names, else the adapter."""
    if config.base_model is not None:
        return config.for_base(config.base_model, None)
    named = facts.get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        raise ExportError(
            f"the adapter {config.model_name} names no base model; set base_model in "
            "setup_config.json"
        )
    revision = facts.get("revision")
    found = config.for_base(named, revision if isinstance(revision, str) else None)
    if found.local_model is not None and not found.local_model.is_dir():
        raise ExportError(
            f"the adapter {config.model_name} was trained from {named}, which is not on this "
            "machine; set base_model in setup_config.json to the folder or the Hub's name of that "
            "model"
        )
    return found


def _shapes(peft: Any, place: Path, config: SetupConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of each of the base model's own weights that the adapter replaces."""
    try:
        weights = peft.load_peft_weights(str(place), device="cpu")
    except Exception as error:  # safetensors and torch read a file here, each with its own errors
        raise ExportError(
            f"the weights of the adapter {config.model_name} are damaged ({one_line(error)}); "
            "download or save it again"
        ) from error
    return {name.removeprefix(PREFIX): tuple(each.shape) for name, each in weights.items()}


def _num_labels(
    folder: Path, config: SetupConfig, shapes: Mapping[str, tuple[int, ...]]
) -> int | None:
    """Return the number of labels of the head that the adapter has, or None without one.

    The head's weights are those whose shape depends on that number.
    """
    auto_class = getattr(transformers, config.task.auto_class)

    def skeleton(labels: int) -> dict[str, torch.Size]:
        settings = transformers.AutoConfig.from_pretrained(
            str(folder), trust_remote_code=config.trust_remote_code, num_labels=labels
        )
        with torch.device("meta"):
            model = auto_class.from_config(settings, trust_remote_code=config.trust_remote_code)
        return {name: tensor.shape for name, tensor in model.named_parameters()}

    try:
        two, three = skeleton(2), skeleton(3)
    except Exception:  # loading the model itself reports it
        return None
    heads = (name for name in two if two[name] != three[name] and name in shapes)
    return next((shapes[name][0] for name in heads), None)


def _resize(model: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Give the base model as many tokens as the adapter was trained with, if it has them all."""
    embeddings = model.get_input_embeddings()
    name = next(name for name, module in model.named_modules() if module is embeddings)
    saved = shapes.get(f"{name}.weight")
    if saved is not None and saved[0] != embeddings.weight.shape[0]:
        model.resize_token_embeddings(saved[0], mean_resizing=False)


def _merge(
    peft: Any, model: Any, place: Path, config: SetupConfig, inputs: Mapping[str, torch.Tensor]
) -> Any:
    """Return the model with the adapter merged; its outputs must be those of both apart."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*missing adapter keys")
            apart = peft.PeftModel.from_pretrained(model, str(place)).eval()
        mapping = getattr(model, "_checkpoint_conversion_mapping", None)
        weights = peft.load_peft_weights(str(place), device="cpu", key_mapping=mapping)
        unused = peft.set_peft_model_state_dict(apart, weights).unexpected_keys
        if unused:
            raise ValueError(f"the base model has no place for {unused[0]}")
        expected = _outputs(apart, inputs)
        merged = apart.merge_and_unload(safe_merge=True).eval()
    except Exception as error:  # peft and the model's own code run here
        raise ExportError(
            f"the adapter {config.model_name} cannot be merged ({one_line(error)}); correct "
            "base_model in setup_config.json, or choose another adapter"
        ) from error
    difference = (_outputs(merged, inputs) - expected).abs().max() / expected.abs().max()
    if not difference <= TOLERANCE:
        raise ExportError(
            f"merged, the adapter {config.model_name} answers differently (by {difference:.2g} of "
            "the outputs' scale); choose another adapter"
        )
    return merged


def _outputs(model: Any, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the first output for a text: logits, or the vectors of its tokens."""
    given = dict(inputs)
    if getattr(model.config, "is_encoder_decoder", False):
        given["decoder_input_ids"] = given["input_ids"]
    with torch.no_grad():
        output: torch.Tensor = model(**given, return_dict=True)[0]
    return output


def _import_peft(config: SetupConfig) -> Any:
    """Import peft, which only these models need."""
    try:
        import peft
    except ImportError as error:
        raise ExportError(
            f"{config.model_name} is an adapter, which needs the package peft "
            f"({one_line(error)}); install it: {sys.executable} -m pip install peft"
        ) from error
    return peft
