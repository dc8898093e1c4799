"""Writes into memory, as the tracer records them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.jit.helpers import trace


class Write(torch.nn.Module):
    """Writes each row's number into as many rows of a buffer."""

    def __init__(self, expand: bool) -> None:
        super().__init__()
        self.expand = expand

    def forward(self, buffer: Tensor, numbers: Tensor) -> Tensor:
        columns = numbers[:, None].expand(-1, 3) if self.expand else numbers[:, None]
        buffer[: numbers.shape[0]] = columns
        return buffer


def test_a_write_of_the_whole_shape_follows_the_sizes() -> None:
    traced = trace(Write(expand=True), torch.zeros(4, 3), torch.ones(2))
    written = traced(torch.zeros(4, 3), torch.tensor([1.0, 2.0, 3.0]))
    assert written.tolist() == [[1.0] * 3, [2.0] * 3, [3.0] * 3, [0.0] * 3]


def test_a_write_that_is_broadcast_takes_the_sizes_of_the_example_only() -> None:
    traced = trace(Write(expand=False), torch.zeros(4, 3), torch.ones(2))
    with pytest.raises(RuntimeError, match="is invalid for input of size 3"):
        traced(torch.zeros(4, 3), torch.ones(3))
