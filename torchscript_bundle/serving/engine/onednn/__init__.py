"""Linear layers repacked for the CPU when a worker loads them; the saved module stays plain."""

from torchscript_bundle.serving.engine.onednn.edited_graph import Arguments, Method
from torchscript_bundle.serving.engine.onednn.int8.calibration import Calibration, calibrate
from torchscript_bundle.serving.engine.onednn.packing import (
    Packed,
    pack,
    pack_int8,
)

__all__ = [
    "Arguments",
    "Calibration",
    "Method",
    "Packed",
    "calibrate",
    "pack",
    "pack_int8",
]
