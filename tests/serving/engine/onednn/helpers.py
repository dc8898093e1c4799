"""Modules and inputs that packing is tried on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from torchscript_bundle.jit import tracing
from torchscript_bundle.jit.deprecation import accept_deprecation
from torchscript_bundle.serving.engine.onednn import Packed

EOS = 2
PAD = 1

Ids = tuple[torch.Tensor, ...]


def ids(batch: int, length: int, inputs: int = 2, padded: bool = True) -> Ids:
    """Random ids that end in EOS, mask and types; every second row is padded to its half."""
    generator = torch.Generator().manual_seed(100 * batch + length)
    tokens = torch.randint(6, 200, (batch, length), generator=generator)
    mask = torch.ones_like(tokens)
    if padded:
        mask[1::2, (length + 1) // 2 :] = 0
    tokens[mask == 0] = PAD
    tokens[torch.arange(batch), mask.sum(dim=1) - 1] = EOS
    return (tokens, mask, torch.zeros_like(tokens))[:inputs]


def reload(module: torch.nn.Module | torch.jit.ScriptModule, path: Path) -> torch.jit.ScriptModule:
    """A scripted module as a worker gets it: saved and loaded."""
    with accept_deprecation():
        scripted = torch.jit.script(module.eval())
    tracing.save(scripted, path)
    loaded = tracing.load(path, torch.device("cpu"))
    loaded.eval()
    return loaded


def apart(expected: Any, actual: Any) -> float:
    """The largest difference of two tuples of tensors, of each tensor's largest value."""
    pairs = zip(expected, actual, strict=True)
    return max(float((one - other).abs().max() / one.abs().max()) for one, other in pairs)


def assert_packed_equals(
    packed: Packed,
    module: torch.jit.ScriptModule,
    inputs: Sequence[tuple[torch.Tensor, ...]],
    tolerance: float = 1e-5,
) -> None:
    """Fails unless packing was done and gives what the module gives."""
    assert packed.reason is None
    with torch.inference_mode():
        for arguments in inputs:
            assert apart(module(*arguments), packed(*arguments)) <= tolerance
