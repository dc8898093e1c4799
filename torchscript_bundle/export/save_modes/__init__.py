"""How a model can be saved for its workers: one file each, one line each here."""

from __future__ import annotations

from torchscript_bundle.export.save_modes.base import SaveMode
from torchscript_bundle.export.save_modes.pretrained import Pretrained
from torchscript_bundle.export.save_modes.torchscript import TorchScript

SAVE_MODES: dict[str, SaveMode] = {
    "torchscript": TorchScript(),
    "pretrained": Pretrained(),
}
