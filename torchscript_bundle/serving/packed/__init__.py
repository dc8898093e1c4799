"""Linear layers repacked for the CPU when a worker loads them; the saved module stays plain."""

from torchscript_bundle.serving.packed.packing import Arguments, Packed, pack, pack_methods

__all__ = ["Arguments", "Packed", "pack", "pack_methods"]
