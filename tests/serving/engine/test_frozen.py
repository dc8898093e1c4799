"""Frozen modules give what the module as saved gives, or are not used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.serving.helpers import CPU
from torchscript_bundle.jit.deprecation import accept_deprecation
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.engine.runtime import Runtime
from torchscript_bundle.serving.engine.torchscript import freeze
from torchscript_bundle.serving.text.tokenizer import Row

WORD = Row([2, 9, 3], [0, 0, 0], False, False)
ROWS = [Row([2, *range(5, 5 + length), 3], [0] * (length + 2), False, False) for length in (1, 30)]


@pytest.mark.parametrize("name", ["bert", "fixed_length", "gpt2"])
def test_answers_are_equal_bit_by_bit(artifact: Callable[[str], Path], name: str) -> None:
    bundle = Bundle.load(artifact(name))
    plain, frozen = (Runtime(artifact(name), bundle, CPU, 4) for _ in range(2))
    frozen.freeze(WORD)
    assert plain.running.forward is plain.module
    assert frozen.running.forward is not frozen.module
    for (one,), (other,) in zip(plain.run(ROWS), frozen.run(ROWS), strict=True):
        assert torch.equal(one, other)


class Counting(torch.nn.Module):
    """Cannot be frozen to any use: it keeps count in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, numbers: torch.Tensor) -> tuple[torch.Tensor]:
        self.calls += 1
        return (numbers + self.calls,)


class Drawing(torch.nn.Module):
    """Gives something else each time, so that nothing can be compared."""

    def forward(self, numbers: torch.Tensor) -> tuple[torch.Tensor]:
        return (numbers + torch.rand(3),)


@pytest.mark.parametrize("module", [Counting(), Drawing()])
def test_module_that_would_differ_stays_as_it_is(module: torch.nn.Module) -> None:
    with accept_deprecation():
        scripted = torch.jit.script(module).eval()
    assert freeze(scripted, [(torch.ones(3),)] * 2) is scripted
