"""Load an artifact's module onto a device, by save mode."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from torchscript_bundle.serving.artifact import MODULE_FILE, Bundle
from torchscript_bundle.serving.engine import eager
from torchscript_bundle.serving.engine.devices import retarget
from torchscript_bundle.serving.engine.torchscript import Forward, accept_deprecation
from torchscript_bundle.serving.errors import ArtifactError


def load_torchscript(folder: Path, bundle: Bundle, device: torch.device) -> torch.jit.ScriptModule:
    """Load the artifact's ScriptModule onto a device."""
    path = folder / MODULE_FILE
    try:
        with accept_deprecation():
            module: torch.jit.ScriptModule = torch.jit.load(str(path), map_location=device)
    except RuntimeError as error:
        raise ArtifactError(
            f"{path} cannot be loaded by torch {torch.__version__} "
            f"(made by torch {bundle.versions.get('torch')}): {error}"
        ) from error
    retarget(module, device)
    return module.eval()


#: The artifact's folder, its `bundle.json` and where the module runs -> the module.
Loader = Callable[[Path, Bundle, torch.device], Forward]

LOADERS: dict[str, Loader] = {"torchscript": load_torchscript, "pretrained": eager.load}
