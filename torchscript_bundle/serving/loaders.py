"""Save modes that can be served: what loads an artifact's module, one file each, one line here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from torchscript_bundle.serving import eager, scripted
from torchscript_bundle.serving.artifact import Bundle

#: Takes the arguments that `Bundle.inputs` names, returns what `Bundle.outputs` names.
Module = Callable[..., tuple[torch.Tensor, ...]]
#: The artifact's folder, its `bundle.json` and where the module runs -> the module.
Loader = Callable[[Path, Bundle, torch.device], Module]

LOADERS: dict[str, Loader] = {"torchscript": scripted.load, "pretrained": eager.load}
