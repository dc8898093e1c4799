"""A module of e3nn inside ours: it has no mode of ours, so the instance is given one."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from torchscript_bundle.jit.compilation import script
from torchscript_bundle.jit.examples import TensorSpec
from torchscript_bundle.jit.modes import set_compile_mode
from torchscript_bundle.jit.tracing import load, save

pytest.importorskip("e3nn")
from e3nn import o3

FEATURES = "4x0e + 2x1o"
SHORT, LONG = torch.full((3, 10), 0.1), torch.full((5, 10), 9.0)


class Gate(torch.nn.Module):
    """Chooses by the norms' values: the tracer would keep one way."""

    def __init__(self) -> None:
        super().__init__()
        irreps = o3.Irreps(FEATURES)
        self.norm = o3.Norm(irreps)
        set_compile_mode(self.norm, "trace")
        # Its check of the last dimension would be traced as a constant.
        set_compile_mode(self.norm.tp, "script")
        self.norm.input_specs = (TensorSpec(("batch", irreps.dim)),)
        self.linear = torch.nn.Linear(6, 6)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """`[batch, 10]` -> `[batch, 6]`."""
        norms = self.norm(features)
        if bool(norms.max() > 1):
            return self.linear(norms)
        return -norms


@pytest.mark.parametrize("features", [SHORT, LONG], ids=["short", "long"])
@pytest.mark.parametrize("in_place", [True, False])
def test_scripted_module_keeps_its_branches_around_a_norm(
    features: torch.Tensor, in_place: bool, tmp_path: Path
) -> None:
    module = Gate().eval()
    expected = module(features)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled = script(module, in_place=in_place)
    assert isinstance(compiled.norm, torch.jit.ScriptModule)
    assert isinstance(module.norm, torch.jit.ScriptModule) == in_place
    save(compiled, tmp_path / "module.pt")
    for each in (compiled, load(tmp_path / "module.pt", torch.device("cpu"))):
        torch.testing.assert_close(each(features), expected)


def test_both_branches_were_taken() -> None:
    norm = o3.Norm(FEATURES)
    assert float(norm(SHORT).max()) < 1 < float(norm(LONG).max())
