"""Read a config file, and tell everything that is wrong with it at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from torchscript_bundle.export.config.rules import contradictions
from torchscript_bundle.export.config.settings import SetupConfig, hub_spelling
from torchscript_bundle.export.config.spelling import OTHER_KEYS, near
from torchscript_bundle.export.config.torchserve_keys import (
    RENAMED,
    UNUSED,
    UNUSED_BY_ARCHIVE,
    translate,
)
from torchscript_bundle.export.errors import ExportError, one_line
from torchscript_bundle.export.tasks import TASKS


def load_config(path: Path) -> SetupConfig:
    """Read `setup_config.json` or TorchServe's `model-config.yaml`; report all faults at once."""
    given = translate(_read_file(path))
    notes = [*given.notes, *_drop_what_generation_lacks(given.values)]
    faults: list[ErrorDetails] = []
    try:
        config = SetupConfig.model_validate(given.values)
    except ValidationError as error:
        faults = error.errors()
        config = _without_faults(given.values, faults)
    wrong = {str(fault["loc"][0]) for fault in faults}
    complaints = [
        *given.faults,
        *_describe_all(faults, given.written),
        *(each.says for each in contradictions(config) if wrong.isdisjoint(each.keys)),
    ]
    if complaints:
        raise ExportError("\n".join(f"{path}: {each}" for each in complaints))
    config._folder, config._notes = path.resolve().parent, tuple(notes)
    return config


def _read_file(path: Path) -> dict[str, Any]:
    """Return the unchecked keys and values of a file: YAML by its suffix, else JSON."""
    in_yaml = path.suffix in (".yaml", ".yml")
    try:
        text = path.read_text(encoding="utf-8")
        raw = yaml.safe_load(text) if in_yaml else json.loads(text)
    except FileNotFoundError as error:
        raise ExportError(f"{path}: no such file; give the path of a setup_config.json") from error
    except OSError as error:
        raise ExportError(f"{path}: cannot be read ({error.strerror})") from error
    except json.JSONDecodeError as error:
        raise ExportError(
            f"{path}: not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from error
    except yaml.YAMLError as error:
        raise ExportError(f"{path}: not YAML ({one_line(error)})") from error
    except ValueError as error:
        raise ExportError(f"{path}: not UTF-8 JSON ({error})") from error
    if not isinstance(raw, dict):
        kind = "mapping" if in_yaml else "JSON object"
        raise ExportError(f"{path}: must hold a {kind} of keys and values")
    return raw


def _drop_what_generation_lacks(values: dict[str, Any]) -> Iterator[str]:
    """Replace the example's values that text generation cannot have; yield what changed."""
    mode = hub_spelling(values.get("mode"))
    if mode not in [name for name, task in TASKS.items() if task.generates]:
        return
    if values.get("save_mode") == "pretrained":
        values["save_mode"] = "torchscript"
        yield (
            f'save_mode "pretrained" is taken as "torchscript": {mode} is served from the traced '
            "file alone"
        )
    if _is_true(values.get("captum_explanation")):
        values["captum_explanation"] = False
        yield (
            f"captum_explanation is taken as false: answers of {mode} have no score to explain, "
            "so /explanations answers 404"
        )


def _is_true(value: Any) -> bool:
    try:
        return TypeAdapter(bool).validate_python(value)
    except ValidationError:
        return False  # validation of the whole config reports it


def _without_faults(values: dict[str, Any], faults: Sequence[ErrorDetails]) -> SetupConfig:
    """Make a config of the valid keys alone, to see whether those contradict each other."""
    while True:
        wrong = {fault["loc"][0] for fault in faults if fault["type"] != "missing"}
        values = {key: value for key, value in values.items() if key not in wrong}
        values = {"model_name": "-", "mode": next(iter(TASKS)), **values}
        try:
            return SetupConfig.model_validate(values)
        except ValidationError as error:  # a value that was valid beside one that was not
            faults = error.errors()


def _describe_all(faults: Sequence[ErrorDetails], written: Mapping[str, str]) -> list[str]:
    """Return a line for each fault; the first unknown key lists the known ones."""
    known = [field.alias or name for name, field in SetupConfig.model_fields.items()]
    lines = []
    listed = False
    for fault in faults:
        key = str(fault["loc"][0])
        name = written.get(key, key)
        if fault["type"] != "extra_forbidden":
            lines.append(_describe(fault, name))
            continue
        meant = near(key, [*known, *UNUSED, *UNUSED_BY_ARCHIVE, *RENAMED], OTHER_KEYS)
        if meant:
            lines.append(f"{name}: unknown key; did you mean {meant!r}?")
        else:
            keys = "" if listed else f"; known keys: {', '.join(known)}"
            lines.append(f"{name}: unknown key{keys}")
            listed = True
    return lines


def _describe(fault: ErrorDetails, name: str) -> str:
    """Return the key as the file spells it, and what is allowed."""
    if fault["type"] == "missing":
        meaning = SetupConfig.model_fields[name].description or ""
        return f"{name}: missing; {' '.join(meaning.split())}"
    place = ".".join(str(part) for part in fault["loc"][1:])
    key = f"{name}.{place}" if place else name
    message = fault["msg"].removeprefix("Value error, ")
    return f"{key}: {message} (got {json.dumps(fault['input'], default=str)[:80]})"
