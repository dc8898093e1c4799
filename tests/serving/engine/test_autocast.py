"""Half precision under autocast, as on a GPU. Autocast is there on CPUs as well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.serving.helpers import CPU
from torchscript_bundle.jit.deprecation import accept_deprecation
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.engine.autocast import HalfModule
from torchscript_bundle.serving.engine.comparison import UnavailableError
from torchscript_bundle.serving.engine.loaders import load_torchscript

IDS = torch.arange(5, 29).reshape(2, 12)
MASK = torch.ones_like(IDS)
MASK[1, 7:] = 0
INPUTS = (IDS, MASK, torch.zeros_like(IDS))


@pytest.fixture
def module(artifact: Callable[[str], Path]) -> torch.jit.ScriptModule:
    folder = artifact("bert")
    return load_torchscript(folder, Bundle.load(folder), CPU)


@torch.no_grad()
@pytest.mark.parametrize("cast_weights", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_answers_are_near_those_in_float32_and_in_float32(
    module: torch.jit.ScriptModule, dtype: torch.dtype, cast_weights: bool
) -> None:
    [expected] = module(*INPUTS)
    half = HalfModule(module, [INPUTS], dtype, cast_weights=cast_weights)
    [actual] = half(*INPUTS)
    assert actual.dtype == torch.float32
    assert not torch.equal(actual, expected)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0.05 * float(expected.abs().max()))
    assert {each.dtype for each in module.parameters() if each.dim() > 1} == {
        dtype if cast_weights else torch.float32
    }


class Overflows(torch.nn.Module):
    """Holds what float16 cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.layer(x * 1e6),)


@torch.no_grad()
def test_module_that_differs_is_refused_and_stays_as_it_was() -> None:
    with accept_deprecation():
        module = torch.jit.script(Overflows().eval())
    x = torch.randn(3, 4)
    [expected] = module(x)
    with pytest.raises(UnavailableError, match=r"in torch.float16 it differs by (inf|nan)"):
        HalfModule(module, [(x,)], torch.float16, cast_weights=True)
    assert torch.equal(module(x)[0], expected)
