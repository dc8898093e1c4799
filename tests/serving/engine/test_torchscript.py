"""Frozen modules give the outputs of the module as saved; one deprecation notice is not heard."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.serving.helpers import CPU
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.engine.loaders import load_torchscript
from torchscript_bundle.serving.engine.padding import pad_batch
from torchscript_bundle.serving.engine.torchscript import accept_deprecation, freeze
from torchscript_bundle.serving.text.tokenizer import Row

ROWS = [Row([2, *range(5, 5 + length), 3], [0] * (length + 2), False, False) for length in (1, 30)]


@pytest.mark.parametrize("name", ["bert", "fixed_length", "gpt2"])
def test_answers_are_equal_bit_by_bit(artifact: Callable[[str], Path], name: str) -> None:
    bundle = Bundle.load(artifact(name))
    plain = load_torchscript(artifact(name), bundle, CPU)
    examples = [pad_batch([row], bundle) for row in ROWS]
    frozen = freeze(plain, examples)
    assert frozen is not plain
    for inputs in examples:
        assert torch.equal(plain(*inputs)[0], frozen(*inputs)[0])


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


def test_what_torch_says_today_is_hidden() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with accept_deprecation():
            torch.jit.script(torch.nn.Linear(3, 2))
        with pytest.raises(DeprecationWarning, match=r"`torch\.jit\.script` is deprecated"):
            torch.jit.script(torch.nn.Linear(3, 2))


def test_other_warnings_pass() -> None:
    with pytest.warns() as caught, accept_deprecation():
        warnings.warn("`torch.qr` is deprecated", DeprecationWarning, stacklevel=1)
        warnings.warn("`torch.jit.script` is odd", UserWarning, stacklevel=1)
    assert len(caught) == 2
