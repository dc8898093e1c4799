"""Layers with fewer rows than are fast: repeated, and the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.serving.engine.onednn.helpers import assert_packed_equals, reload
from torchscript_bundle.jit.compilation import trace
from torchscript_bundle.serving.engine.onednn import pack

AFTER: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "alone": lambda y, x: y,
    "gelu": lambda y, x: torch.nn.functional.gelu(y),
    "sum": lambda y, x: y + x,
}


class Layer(torch.nn.Module):
    def __init__(self, after: str) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(32, 32)
        self.after = AFTER[after]

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.after(self.linear(x), x),)


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("shape", [(), (1,), (3,)], ids=["2d", "3d", "3d-tokens"])
def test_any_number_of_rows(after: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    inputs = [(torch.randn(rows, *shape, 32),) for rows in (1, 2, 3, 4, 5, 9)]
    module = reload(trace(Layer(after).eval(), inputs[1]), tmp_path / "module.pt")
    assert_packed_equals(pack(module, inputs[:2]), module, inputs)


class Shared(torch.nn.Module):
    """Adds one row to all."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(32, 32)

    def forward(self, x: torch.Tensor, row: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.linear(x) + row,)


def test_row_that_is_added_to_all_stays_one(tmp_path: Path) -> None:
    inputs = [(torch.randn(rows, 32), torch.randn(1, 32)) for rows in (1, 3, 6)]
    module = reload(trace(Shared().eval(), inputs[1]), tmp_path / "module.pt")
    assert_packed_equals(pack(module, inputs[:2]), module, inputs)
