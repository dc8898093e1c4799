"""What is found in a graph, what is fused, and what is left alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.cpu import needs_bfloat16
from tests.serving.engine.onednn.helpers import (
    Inputs,
    assert_packed_equals,
    packed_layers,
    reload,
    reload_traced,
    vectors,
)
from torchscript_bundle.serving.engine.onednn import Packed, pack

Function = Callable[[torch.Tensor], torch.Tensor]


def checked() -> list[Inputs]:
    """What modules are packed with and compared on."""
    return vectors((1, 4), (3, 5))


class Block(torch.nn.Module):
    """A linear layer and what is done with its output."""

    def __init__(self, after: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(32, 32)
        self.after = after

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.after(self.linear(x), x),)


def pack_traced(module: torch.nn.Module, tmp_path: Path) -> Packed:
    loaded = reload_traced(module, checked()[1], tmp_path)
    packed = pack(loaded, {"forward": checked()})
    assert_packed_equals(packed, loaded, checked())
    return packed


def gelu_of_gpt2(y: torch.Tensor) -> torch.Tensor:
    return 0.5 * y * (1.0 + torch.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * torch.pow(y, 3.0))))


def gelu_of_bloom(y: torch.Tensor) -> torch.Tensor:
    return y * 0.5 * (1.0 + torch.tanh(0.79788456 * y * (1 + 0.044715 * y * y)))


def gelu_by_erf(y: torch.Tensor) -> torch.Tensor:
    return y * 0.5 * (1.0 + torch.erf(y / math.sqrt(2.0)))


def quick_gelu(y: torch.Tensor) -> torch.Tensor:
    return y * torch.sigmoid(1.702 * y)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (torch.nn.functional.gelu, "gelu"),
        (torch.relu, "relu"),
        (torch.tanh, "tanh"),
        (torch.nn.functional.silu, "swish"),
        (gelu_of_gpt2, "gelu"),
        (gelu_of_bloom, "gelu"),
        (gelu_by_erf, "gelu"),
        (lambda y: y * torch.sigmoid(y), "swish"),
        (quick_gelu, "none"),
        (torch.sigmoid, "none"),
        (lambda y: gelu_by_erf(y) + y, "none"),
    ],
)
def test_activations_are_fused_however_they_are_spelled(
    function: Function, name: str, tmp_path: Path
) -> None:
    packed = pack_traced(Block(lambda y, _: function(y)), tmp_path)
    assert packed_layers(packed) == [name]


@pytest.mark.parametrize(
    ("after", "name"),
    [
        (lambda y, x: y + x, "add"),
        (lambda y, x: x + y, "add"),
        (lambda y, x: y * x, "mul"),
        (lambda y, x: torch.add(y, x, alpha=2), "none"),
        (lambda y, x: y + 1, "none"),
        (lambda y, x: y + y, "none"),
        (lambda y, x: (y + x) * y, "none"),
    ],
)
def test_what_is_added_or_multiplied_is_fused(
    after: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    name: str,
    tmp_path: Path,
) -> None:
    assert packed_layers(pack_traced(Block(after), tmp_path)) == [name]


def test_empty_batch(tmp_path: Path) -> None:
    packed = pack_traced(Block(lambda y, x: y + x), tmp_path)
    assert packed(torch.empty(0, 4, 32))[0].shape == (0, 4, 32)


def test_what_is_added_may_be_of_another_shape(tmp_path: Path) -> None:
    """One row for all: oneDNN cannot add that, so the layer is packed without it."""
    packed = pack_traced(Block(lambda y, x: y + x[:1]), tmp_path)
    assert packed_layers(packed) == ["none"]


def test_tensor_written_to_before_the_sum(tmp_path: Path) -> None:
    class Writes(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(32, 32)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
            x = x + 1
            y = self.linear(x)
            x.mul_(2)
            return (y + x,)

    assert packed_layers(pack_traced(Writes(), tmp_path)) == ["none"]


class Conv1D(torch.nn.Module):
    """GPT-2's: rows are flattened, multiplied, and put back."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(32, 32))
        self.bias = torch.nn.Parameter(torch.randn(32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight)
        return flat.view(*x.shape[:-1], 32)


class Product(torch.nn.Module):
    """The same by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(32, 32))
        self.bias = torch.nn.Parameter(torch.randn(32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight + self.bias


class Scaled(Conv1D):
    """Not a linear layer with this bias."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight, alpha=2)
        return flat.view(*x.shape[:-1], 32)


@pytest.mark.parametrize(
    ("layer", "found"),
    [(Conv1D, ["add", "none"]), (Product, ["add", "none"]), (Scaled, ["none"])],
)
def test_linear_layers_in_other_words(
    layer: type[torch.nn.Module], found: list[str], tmp_path: Path
) -> None:
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.last = layer(), torch.nn.Linear(32, 8)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
            return (self.last(self.layer(x) + x),)

    assert packed_layers(pack_traced(Twice(), tmp_path)) == found


@pytest.mark.parametrize("bias", [True, False])
def test_layers_that_read_the_same_become_one(bias: bool, tmp_path: Path) -> None:
    class Three(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList(torch.nn.Linear(32, n, bias) for n in (8, 32, 16))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(layer(x) for layer in self.layers)

    assert packed_layers(pack_traced(Three(), tmp_path)) == ["none"]


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-5), pytest.param(torch.bfloat16, 5e-2, marks=needs_bfloat16)],
)
def test_loops_and_branches(dtype: torch.dtype, tolerance: float, tmp_path: Path) -> None:
    class Steps(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(32, 32)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
            for _ in range(x.size(1)):
                if bool(x.sum() > 0):  # noqa: SIM108
                    x = torch.tanh(self.linear(x))
                else:
                    x = self.linear(x) + x
            return (x,)

    loaded = reload(Steps(), tmp_path / "module.pt")
    assert_packed_equals(pack(loaded, {"forward": checked()}, dtype), loaded, checked(), tolerance)
