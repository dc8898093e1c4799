"""The ways to save a model for its workers: one file and one line each."""

from __future__ import annotations

from torchscript_bundle.export.save_modes.pretrained import Pretrained
from torchscript_bundle.export.save_modes.save_mode import SaveMode
from torchscript_bundle.export.save_modes.traced import TorchScript

SAVE_MODES: dict[str, SaveMode] = {
    "torchscript": TorchScript(),
    "pretrained": Pretrained(),
}
