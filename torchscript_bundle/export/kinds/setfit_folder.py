"""A SetFit folder: a sentence encoder, and a classifier over its vectors in a pickle."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from torchscript_bundle.export.checkpoint import check_folder
from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.kinds.classifiers import read_classifier
from torchscript_bundle.export.kinds.kind import Kind
from torchscript_bundle.export.kinds.transformers_folder import load_model
from torchscript_bundle.export.pooling import Normalize
from torchscript_bundle.export.sentence_folder import check_transformer, read_prompts
from torchscript_bundle.export.sentence_head import read_encoder
from torchscript_bundle.export.source import Source
from torchscript_bundle.export.tokenizer_loading import load_tokenizer

logger = logging.getLogger(__name__)

CONFIG_FILE = "config_setfit.json"
HEAD_FILE = "model_head.pkl"


class SetFitFolder(Kind):
    def recognises(self, folder: Path, config: SetupConfig) -> bool:
        files = (folder / CONFIG_FILE, folder / HEAD_FILE)
        return config.mode == "sequence_classification" and any(each.is_file() for each in files)

    def load(self, folder: Path, revision: str | None, config: SetupConfig) -> Source:
        name = config.model_name
        _check_head(folder, config)
        settings = _read_settings(folder)
        encoding = config.model_copy(update={"mode": "feature_extraction"})
        check_folder(folder, encoding)
        tokenizer = load_tokenizer(folder, encoding)
        body = Source(load_model(folder, encoding), tokenizer, name, revision, folder)
        check_transformer(body, encoding)
        prompts, default = read_prompts(body)
        if prompts.get(default):
            raise ExportError(
                f"{name} puts a prompt before each text (default_prompt_name), which is not done "
                "here; choose another model"
            )
        logger.warning("use_safetensors is false: the pickled head of %s is loaded", name)
        classifier = read_classifier(folder / HEAD_FILE, name, settings.get("labels"))
        further = [Normalize()] if settings.get("normalize_embeddings") else []
        head = read_encoder(body, encoding).head(*further, classifier.layer)
        body.model.config.id2label = dict(enumerate(classifier.labels))
        body.model.config.label2id = {label: at for at, label in enumerate(classifier.labels)}
        body.model.config.problem_type = classifier.problem_type
        return Source(body.model, tokenizer, name, revision, folder, head)


def _check_head(folder: Path, config: SetupConfig) -> None:
    """Refuse a folder whose head is missing, or a pickle that the config does not allow."""
    if config.save_mode == "pretrained":
        raise ExportError(
            f"{config.model_name} is a SetFit model, whose classifier is no part of transformers; "
            'set "save_mode": "torchscript"'
        )
    if config.use_safetensors:
        raise ExportError(
            f"{config.model_name} is a SetFit model, whose classifier is a pickle ({HEAD_FILE}); "
            'set "use_safetensors": false if you trust its author (a pickle runs code)'
        )
    if not (folder / HEAD_FILE).is_file():
        raise ExportError(
            f"{config.model_name} has no {HEAD_FILE}; save the trained SetFit model again with "
            "save_pretrained"
        )


def _read_settings(folder: Path) -> dict[str, Any]:
    """Return config_setfit.json; empty where there is none, as in old folders."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        return {}
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        settings = None
    if not isinstance(settings, dict) or not isinstance(settings.get("labels") or [], list):
        raise ExportError(f"{path}: must be a JSON object with a list of labels; save it again")
    return settings
