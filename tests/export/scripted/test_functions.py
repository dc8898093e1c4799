"""A function is replaced in one model, and nowhere else."""

from __future__ import annotations

import copy

import pytest
import torch

from torchscript_bundle.export.scripted.functions import replace_function, scripted


def twice(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


class Doubles(torch.nn.Module):
    """Calls a function of its file, with a default and a keyword that must survive."""

    def __init__(self, offset: float = 0.0) -> None:
        super().__init__()
        self.offset = offset

    def forward(self, x: torch.Tensor, y: float = 1.0, *, z: float = 10.0) -> torch.Tensor:
        return twice(x) + y + z + self.offset


ONE = torch.ones(1)
triple = replace_function("twice", lambda original: lambda x: original(x) + x)


def test_only_the_given_model_changes() -> None:
    model, other = torch.nn.Sequential(Doubles()), torch.nn.Sequential(Doubles())
    triple(model)
    assert model(ONE) == 14
    assert model[0](ONE, 2.0, z=0.0) == 5
    assert other(ONE) == Doubles()(ONE) == 13
    assert twice(ONE) == 2


def test_a_copy_calls_itself_and_not_what_it_was_copied_from() -> None:
    model = Doubles()
    triple(model)
    copied = copy.deepcopy(model)
    copied.offset = 100.0
    assert copied(ONE) == 114
    assert model(ONE) == 14


def test_a_function_that_nobody_calls_is_refused_by_name() -> None:
    with pytest.raises(LookupError, match="no module of Linear calls twice"):
        triple(torch.nn.Linear(1, 1))


@scripted
def total(x: torch.Tensor) -> torch.Tensor:
    result = torch.zeros_like(x[0])
    for index in range(x.size(0)):
        result = result + x[index]
    return result


def test_a_scripted_function_keeps_its_loop_in_a_trace() -> None:
    traced = torch.jit.trace(lambda x: total(x) + 1, torch.ones(2))
    assert traced(torch.ones(5)) == 6
