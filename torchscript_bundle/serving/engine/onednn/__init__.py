"""Linear layers repacked for the CPU when a worker loads them; the saved module stays plain."""

from torchscript_bundle.serving.engine.onednn.frozen_graphs import Arguments, Method
from torchscript_bundle.serving.engine.onednn.int8 import Calibration, calibrate, pack_int8
from torchscript_bundle.serving.engine.onednn.packing import Packed, pack, pack_methods

__all__ = [
    "Arguments",
    "Calibration",
    "Method",
    "Packed",
    "calibrate",
    "pack",
    "pack_int8",
    "pack_methods",
]
