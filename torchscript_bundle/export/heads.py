"""The mode that a checkpoint's own head is for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from transformers.models.auto import modeling_auto

from torchscript_bundle.export.tasks import TASKS

#: Loads any model without a head.
NO_HEAD = "AutoModel"
#: Auto class of a mode -> model_type -> name of the class, or names.
_NAMES: Mapping[str, Mapping[str, str | Sequence[str]]] = {
    "AutoModelForSequenceClassification": (
        modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    ),
    "AutoModelForTokenClassification": modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    "AutoModelForQuestionAnswering": modeling_auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
    "AutoModelForMaskedLM": modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    "AutoModelForCausalLM": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "AutoModelForSeq2SeqLM": modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    NO_HEAD: {},  # its models are not all of texts
}


def saved_class(folder: Path) -> str | None:
    """Return the class that a checkpoint was saved from; None where its config has no such key."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    names = config.get("architectures")
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else None


def modes_of(class_name: str) -> list[str]:
    """Return the modes whose head a class of transformers has."""
    return [mode for mode, task in TASKS.items() if class_name in _classes(task.auto_class)]


def other_mode(folder: Path, mode: str) -> str | None:
    """Return what to set `mode` to, as the end of a sentence; None if the head fits the mode."""
    name = saved_class(folder)
    fitting = modes_of(name) if name else []
    if not fitting or mode in fitting or TASKS[mode].auto_class == NO_HEAD:
        return None
    *others, last = (f'"{each}"' for each in fitting)
    return f"it is a {name}: set mode to {' or '.join(filter(None, [', '.join(others), last]))}"


def _classes(auto_class: str) -> Iterable[str]:
    for names in _NAMES[auto_class].values():
        yield from (names,) if isinstance(names, str) else names
