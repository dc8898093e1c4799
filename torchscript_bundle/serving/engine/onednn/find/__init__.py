"""Find the linear layers and activations of a frozen graph; write each as one operator."""

from __future__ import annotations

import torch

from torchscript_bundle.serving.engine.onednn import ir
from torchscript_bundle.serving.engine.onednn.find.activations import write_as_activations
from torchscript_bundle.serving.engine.onednn.find.linears import write_as_linears

FINDERS = (write_as_linears, write_as_activations)


def find_layers(graph: ir.Graph) -> None:
    """Run every finder on a graph, in order."""
    for write_as_one in FINDERS:
        write_as_one(graph)
        torch._C._jit_pass_dce(graph)
