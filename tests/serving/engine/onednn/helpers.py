"""Inputs for packing, modules as a worker loads them, and what packed graphs hold and compute."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from torchscript_bundle.jit import tracing
from torchscript_bundle.jit.compilation import trace
from torchscript_bundle.jit.deprecation import accept_deprecation
from torchscript_bundle.serving.engine.onednn import Packed
from torchscript_bundle.serving.engine.onednn.edited_graph import FunctionWithWeights
from torchscript_bundle.serving.engine.onednn.ir import Node, nodes_of
from torchscript_bundle.serving.engine.onednn.rewrite.linear_fusion import PACKED_LINEAR

EOS = 2
PAD = 1

Inputs = tuple[torch.Tensor, ...]


def floats(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normal random numbers, the same at every call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def vectors(*shapes: tuple[int, ...]) -> list[Inputs]:
    """For each shape the only argument of a module whose layers read 32 features."""
    return [(floats(*shape, 32, seed=number),) for number, shape in enumerate(shapes)]


def ids(batch: int, length: int, inputs: int = 2, padded: bool = True) -> Inputs:
    """Random ids that end in EOS, mask and types; every second row is padded to its half."""
    generator = torch.Generator().manual_seed(100 * batch + length)
    tokens = torch.randint(6, 200, (batch, length), generator=generator)
    mask = torch.ones_like(tokens)
    if padded:
        mask[1::2, (length + 1) // 2 :] = 0
    tokens[mask == 0] = PAD
    tokens[torch.arange(batch), mask.sum(dim=1) - 1] = EOS
    return (tokens, mask, torch.zeros_like(tokens))[:inputs]


def load(path: Path, device: str = "cpu") -> torch.jit.ScriptModule:
    """A module as a worker loads it."""
    module = tracing.load(path, torch.device(device))
    module.eval()
    return module


def reload(module: torch.nn.Module | torch.jit.ScriptModule, path: Path) -> torch.jit.ScriptModule:
    """A module scripted, saved and loaded."""
    with accept_deprecation():
        scripted = torch.jit.script(module.eval())
    tracing.save(scripted, path)
    return load(path)


def reload_traced(module: torch.nn.Module, example: Inputs, folder: Path) -> torch.jit.ScriptModule:
    """A module traced, saved and loaded."""
    return reload(trace(module.eval(), example), folder / "module.pt")


def apart(expected: Any, actual: Any) -> float:
    """The largest difference of two tuples of tensors, of each tensor's largest value."""
    pairs = zip(expected, actual, strict=True)
    return max(float((one - other).abs().max() / one.abs().max()) for one, other in pairs)


def assert_packed_equals(
    packed: Packed,
    module: torch.jit.ScriptModule,
    inputs: Sequence[Inputs],
    tolerance: float = 1e-5,
) -> None:
    """Fails unless packing was done and gives what the module gives."""
    assert packed.reason is None
    with torch.inference_mode():
        for arguments in inputs:
            assert apart(module(*arguments), packed(*arguments)) <= tolerance


def function_of(packed: Packed) -> FunctionWithWeights:
    """What `forward` is, once it is packed."""
    forward = packed.methods["forward"]
    assert isinstance(forward, FunctionWithWeights)
    return forward


def packed_layers(packed: Packed) -> list[str]:
    """What each packed float32 layer computes besides, in order; "none" for nothing.

    Each is twice in the graph: in a branch for few rows, and in one for any number.
    """
    layers = nodes_of(function_of(packed).function.graph, PACKED_LINEAR)  # type: ignore[attr-defined]
    names = [_fused(layer) for layer in layers]
    assert names[::2] == names[1::2]
    return names[::2]


def _fused(layer: Node) -> str:
    inputs = [each.toIValue() for each in layer.inputs() if each.type().kind() == "StringType"]
    return str(inputs[0])
