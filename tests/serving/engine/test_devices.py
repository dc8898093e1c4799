"""Seen without a GPU: a module whose constants point elsewhere fails, and runs once retargeted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from torchscript_bundle.jit import tracing
from torchscript_bundle.serving.artifact import MODULE_FILE
from torchscript_bundle.serving.engine.devices import device_constants, retarget

CPU = torch.device("cpu")
ROW = torch.tensor([[2, 9, 8, 7, 3, 0, 0, 0] * 2])


@pytest.mark.parametrize("name", ["bert", "fixed_length"])
def test_device_constants_follow_the_device(artifact: Callable[[str], Path], name: str) -> None:
    path = artifact(name) / MODULE_FILE
    inputs = (ROW, (ROW > 0).long(), torch.zeros_like(ROW))
    expected = tracing.load(path, CPU)(*inputs)[0]
    module = tracing.load(path, CPU)
    assert list(device_constants(module))
    retarget(module, torch.device("cuda", 7))
    assert {node.s("value") for node in device_constants(module)} == {"cuda:7"}
    with pytest.raises(RuntimeError, match=r"(?i)cuda"):
        module(*inputs)
    module = tracing.load(path, CPU)
    retarget(module, torch.device("cuda", 7))
    retarget(module, CPU)
    assert torch.equal(module(*inputs)[0], expected)
