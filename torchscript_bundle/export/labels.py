"""The labels of a model: those of the artifacts folder, else the model's own."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from torchscript_bundle.export.errors import ExportError

logger = logging.getLogger(__name__)

LABELS_FILE = "index_to_name.json"
#: Where the TorchServe example lists the labels of tokens.
LIST_KEY = "label_list"


def resolve_labels(model_config: Any, num_labels: int | None, artifacts: Path) -> tuple[str, ...]:
    """Return the labels by index: those in `index_to_name.json` of `artifacts`, or the model's.

    ExportError: the file is malformed, or contradicts the model, or `num_labels` does.
    """
    size = int(model_config.num_labels)
    if num_labels is not None and num_labels != size:
        raise ExportError(
            f"setup_config.json says num_labels {num_labels}, the model has {size} labels; "
            "set num_labels to the model's number or leave it out"
        )
    if set(model_config.id2label) != set(range(size)):
        raise ExportError(
            f"the model's id2label has the indices {', '.join(map(str, model_config.id2label))} "
            f"for {size} labels; correct id2label in its config.json to 0 up to {size - 1}"
        )
    own = tuple(str(model_config.id2label[index]) for index in range(size))
    path = artifacts / LABELS_FILE
    if not path.is_file():
        return own
    names = _read_names(path)
    if len(names) != size:
        raise ExportError(
            f"{path} has {len(names)} labels, the model's num_labels is {size}; correct the file, "
            "or set artifacts_dir in setup_config.json to a folder without one"
        )
    _check_renaming(path, own, names)
    return names


def _read_names(path: Path) -> tuple[str, ...]:
    """Return the names by index: from `{"0": "NEGATIVE", "1": "POSITIVE"}`, or from a list."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExportError(f"{path}: not JSON ({error})") from error
    if isinstance(raw, dict) and set(raw) == {LIST_KEY}:
        names = _read_list(raw[LIST_KEY])
    else:
        indices = [str(index) for index in range(len(raw))] if isinstance(raw, dict) else []
        names = [raw[index] for index in indices] if set(raw) == set(indices) else []
    if not names:
        raise ExportError(
            f'{path}: must be an object such as {{"0": "NEGATIVE", "1": "POSITIVE"}}, or '
            f'{{"{LIST_KEY}": ["O", "B-PER"]}}'
        )
    if not all(isinstance(name, str) and name for name in names):
        raise ExportError(f"{path}: every label must be a string that is not empty")
    return tuple(names)


def _read_list(given: object) -> list[Any]:
    """Return the names in a list, or in a string like the example's `[O, B-MISC, "I-MISC"]`."""
    if isinstance(given, list):
        return given
    text = given.strip() if isinstance(given, str) else ""
    if not (text.startswith("[") and text.endswith("]")):
        return []
    return [part.strip().strip("\"'") for part in text[1:-1].split(",")]


def _check_renaming(path: Path, own: tuple[str, ...], names: tuple[str, ...]) -> None:
    """Refuse the model's own names in another order, which must be a mistake; log new names."""
    if own == names or all(name == f"LABEL_{index}" for index, name in enumerate(own)):
        return
    before, after = ([name.upper() for name in each] for each in (own, names))
    if before != after and sorted(before) == sorted(after):
        raise ExportError(
            f"{path} gives the model's labels in another order ({', '.join(names)}) than the "
            f"model's id2label ({', '.join(own)}); correct the file or delete it"
        )
    pairs = ", ".join(f"{old} -> {new}" for old, new in zip(own, names, strict=True))
    logger.warning("labels renamed by %s: %s", path, pairs)
