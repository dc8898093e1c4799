"""Layers with fewer rows than are fast: repeated, and the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.serving.engine.onednn.helpers import (
    assert_packed_equals,
    floats,
    function_of,
    packed_layers,
    reload_traced,
    vectors,
)
from torchscript_bundle.serving.engine.onednn import pack
from torchscript_bundle.serving.engine.onednn.ir import all_nodes

#: What follows a layer, and oneDNN's name of it.
AFTER: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "none": lambda y, x: y,
    "gelu": lambda y, x: torch.nn.functional.gelu(y),
    "add": lambda y, x: y + x,
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
    inputs = vectors(*((rows, *shape) for rows in (1, 2, 3, 4, 5, 9)))
    module = reload_traced(Layer(after), inputs[1], tmp_path)
    packed = pack(module, {"forward": inputs[:2]})
    assert_packed_equals(packed, module, inputs)
    assert packed_layers(packed) == [after]
    kinds = [node.kind() for node in all_nodes(function_of(packed).function.graph)]  # type: ignore[attr-defined]
    # Around the layer, and around each operand that is repeated, one way or the other.
    assert kinds.count("prim::If") == (3 if after == "add" else 2)


class Shared(torch.nn.Module):
    """Adds one row to all."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(32, 32)

    def forward(self, x: torch.Tensor, row: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.linear(x) + row,)


def test_row_that_is_added_to_all_stays_one(tmp_path: Path) -> None:
    inputs = [(floats(rows, 32), floats(1, 32, seed=1)) for rows in (1, 3, 6)]
    module = reload_traced(Shared(), inputs[1], tmp_path)
    assert_packed_equals(pack(module, {"forward": inputs[:2]}), module, inputs)
