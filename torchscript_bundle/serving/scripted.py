"""`save_mode: "torchscript"`: a ScriptModule, which torch alone loads and runs."""

from __future__ import annotations

from pathlib import Path

import torch

from torchscript_bundle.serving.artifact import MODULE_FILE, Bundle
from torchscript_bundle.serving.deprecation import accept_deprecation
from torchscript_bundle.serving.devices import retarget
from torchscript_bundle.serving.errors import ArtifactError


def load(folder: Path, bundle: Bundle, device: torch.device) -> torch.jit.ScriptModule:
    """Loads the artifact's ScriptModule onto a device.

    Raises:
        ArtifactError: the installed torch cannot load it.
    """
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
