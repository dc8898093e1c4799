"""The answer to TorchServe's describe call: the artifact's facts and its OpenAPI document."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from torchscript_bundle.serving.artifact import API_FILE, REMAKE, Bundle, read_json_object
from torchscript_bundle.serving.describe.openapi import describe_folder, with_name
from torchscript_bundle.serving.engine.precisions import Running
from torchscript_bundle.serving.errors import ArtifactError

#: The facts of `bundle.json` in the answer.
DESCRIBED = ("mode", "save_mode", "labels", "max_length", "precision", "versions", "source")


def describe_bundle(
    folder: Path, model_name: str, bundle: Bundle, running: Running, **live: object
) -> dict[str, Any]:
    """Return the answer to a describe call; `live` are further facts of the service."""
    facts = asdict(bundle)
    return {
        **{name: facts[name] for name in DESCRIBED},
        "running": {"precision": running.precision, "reason": running.reason},
        **live,
        "openapi": load_api(folder, model_name),
    }


def load_api(folder: Path, model_name: str) -> dict[str, Any]:
    """Return an archive's OpenAPI document for the registered name, or make that of a folder."""
    path = folder / API_FILE
    if not path.exists():
        return describe_folder(folder, model_name)
    api = read_json_object(path)
    try:
        return with_name(api, model_name)
    except (AttributeError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} is not the document of this version; {REMAKE}") from error
