"""What would break the tracer goes through it, and stays out of the way of everything else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from torchscript_bundle.jit import load, record_tracer_warnings, save, trace
from torchscript_bundle.jit.gaps import bridged_gaps

CPU = torch.device("cpu")


class Square(torch.autograd.Function):
    """With a context, as older code has it."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(value)
        return value * value

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return 2 * ctx.saved_tensors[0] * gradient


class Cube(torch.autograd.Function):
    """Without one, as `torch.func` wants it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: torch.Tensor, power: int = 3) -> torch.Tensor:
        return value**power

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        ctx.save_for_backward(inputs[0])


def scattered(rows: torch.Tensor, **value: bool) -> torch.Tensor:
    mask = torch.ones_like(rows, dtype=torch.bool)
    return mask.scatter(-1, rows.topk(2).indices, **value) if value else mask


class Calls(torch.nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.function(rows)


@pytest.mark.parametrize(
    "function",
    [
        lambda rows: Square.apply(rows),
        lambda rows: Cube.apply(rows),
        lambda rows: torch.vmap(lambda row: Cube.apply(row))(rows),
        lambda rows: scattered(rows, value=False),
        lambda rows: torch.ones_like(rows).bool().scatter(-1, rows.topk(2).indices, False),
        lambda rows: torch.scatter(torch.zeros_like(rows).bool(), -1, rows.topk(2).indices, True),
        lambda rows: torch.scatter(rows, -1, rows.topk(2).indices, 0.5),
    ],
)
def test_traces_saves_and_answers_alike(
    function: Callable[[torch.Tensor], torch.Tensor], tmp_path: Path
) -> None:
    module = Calls(function)
    with record_tracer_warnings():
        save(trace(module, (torch.randn(2, 3),)), tmp_path / "module.pt")
    loaded = load(tmp_path / "module.pt", CPU)
    rows = torch.randn(4, 5)
    expected = module(rows)
    assert loaded(rows).dtype == expected.dtype
    assert torch.equal(loaded(rows), expected)


def test_gradients_are_as_before_afterwards() -> None:
    with torch.no_grad(), bridged_gaps():
        Square.apply(torch.ones(2))
    value = torch.tensor([3.0], requires_grad=True)
    Square.apply(value).backward()
    assert value.grad is not None and value.grad.item() == 6


class Shortest(torch.nn.Module):
    """Takes the best of a row: three, or as many as there are."""

    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        best = rows.topk(min(3, rows.shape[1])).values
        longest = torch.zeros(max(rows.shape[0], rows.shape[1], 2))
        return best, longest


@pytest.mark.parametrize("traced_at", [(2, 1), (2, 5)])
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (2, 3), (4, 3), (2, 7)])
def test_the_smaller_of_a_size_and_a_number_is_chosen_at_each_call(
    traced_at: tuple[int, int], shape: tuple[int, int]
) -> None:
    module, rows = Shortest(), torch.randn(shape)
    traced = trace(module, (torch.randn(traced_at),))
    for output, expected in zip(traced(rows), module(rows), strict=True):
        assert torch.equal(output, expected)


def test_min_and_max_of_anything_else_are_pythons() -> None:
    with bridged_gaps():
        assert min(3, 2) == 2 and max([1, 4, 2]) == 4 and max("b", "a") == "b"
        assert min([], default=7) == 7 and max(1, -2, key=abs) == -2
        assert min(2.5, 3) == 2.5 and min(True, 3) is True
        assert float(min(torch.tensor(1.5), torch.tensor(0.5))) == 0.5
    assert type(min) is type(len)
