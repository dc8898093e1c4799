"""The ways to save a model for its workers: one file and one line each."""

from __future__ import annotations

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.kinds.traced_folder import TracedSource
from torchscript_bundle.export.save_modes.adopted import Adopted
from torchscript_bundle.export.save_modes.pretrained import Pretrained
from torchscript_bundle.export.save_modes.save_mode import SaveMode
from torchscript_bundle.export.save_modes.traced import TorchScript
from torchscript_bundle.export.source import Source

SAVE_MODES: dict[str, SaveMode] = {
    "torchscript": TorchScript(),
    "pretrained": Pretrained(),
}


def save_mode_of(config: SetupConfig, source: Source) -> SaveMode:
    """Return the config's save mode, or that of models which others have traced."""
    return Adopted() if isinstance(source, TracedSource) else SAVE_MODES[config.save_mode]
