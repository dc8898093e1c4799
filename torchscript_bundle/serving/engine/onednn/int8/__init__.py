"""Linear layers that multiply int8 numbers, with scales found beforehand on sample inputs."""

from torchscript_bundle.serving.engine.onednn.int8.calibration import (
    Calibration,
    LayerRange,
    calibrate,
)
from torchscript_bundle.serving.engine.onednn.int8.int8_packing import pack_int8

__all__ = ["Calibration", "LayerRange", "calibrate", "pack_int8"]
