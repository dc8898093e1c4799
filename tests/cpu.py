"""Marks of tests that compute in what not every CPU has instructions for."""

from __future__ import annotations

import pytest

from torchscript_bundle.serving.engine.onednn.int8.quantised_weights import has_int8
from torchscript_bundle.serving.engine.onednn.packed_weights import has_bfloat16

needs_bfloat16 = pytest.mark.skipif(
    not has_bfloat16(), reason="this CPU has no bfloat16 instructions that oneDNN uses"
)
needs_int8 = pytest.mark.skipif(not has_int8(), reason="this CPU has no int8 instructions (VNNI)")
