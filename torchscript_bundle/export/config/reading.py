"""What a config is served as, for commands that only talk to a server and should start at once.

Importing torch and transformers takes seconds, and what else a config says was checked when its
archive was made.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from torchscript_bundle.export.errors import ExportError, one_line
from torchscript_bundle.export.torchserve_keys import translate

#: TorchServe asks for its API key wherever a path has `/token`, so that such a model cannot be
#: described or scaled with the management key.
RESERVED = "token"


def served_name(archive_name: str | None, model_name: str, mode: str) -> str:
    """Name of the archive and of the model in TorchServe's URLs.

    Args:
        archive_name: what the config says, if it does.
        model_name: Hub model or folder; its last part is the name.
        mode: the name where that has no letter.
    """
    if archive_name:
        return archive_name
    last = Path(model_name).name
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", last).lstrip("_.-") or mode
    return f"model_{name}" if name.startswith(RESERVED) else name


def read_served_name(path: Path) -> str:
    """The name that a config file is served by.

    Raises:
        ExportError: no such file, not a JSON object, or no names in it.
    """
    values = translate(read_config(path)).values
    archive_name, model_name, mode = map(values.get, ("archive_name", "model_name", "mode"))
    if not isinstance(model_name, str) or not isinstance(mode, str):
        raise ExportError(f"{path}: model_name and mode must be texts; `make archive` says more")
    return served_name(archive_name and str(archive_name), model_name, mode)


def read_config(path: Path) -> dict[str, Any]:
    """The keys and values of a config file, unchecked: YAML by its suffix, else JSON.

    Raises:
        ExportError: no such file, or not an object.
    """
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


def content_type(sample: str) -> str:
    """What a sample is sent as: JSON where it is an object or a list, and text else.

    What only looks like JSON, as one of the TorchServe example's samples does, is sent as that
    example sends it, without a type; the server knows its form.
    """
    if sample[:1] not in ("{", "["):
        return "text/plain; charset=utf-8"
    try:
        json.loads(sample)
    except ValueError:
        return "application/octet-stream"
    return "application/json"
