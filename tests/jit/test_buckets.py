"""Traces of several lengths behind one forward."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from torchscript_bundle.jit.buckets import dispatch_by_length
from torchscript_bundle.jit.compilation import trace
from torchscript_bundle.jit.tracing import load, record_tracer_warnings, save

CPU = torch.device("cpu")
LENGTHS = (4, 8, 12)
INPUTS = pytest.mark.parametrize("inputs", [2, 3])


class OneLength(torch.nn.Module):
    """A trace of it is right at the traced length only: it keeps the length as a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(1000, 64)

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor]:
        scale = float(inputs[0].shape[1])
        weights = torch.stack(inputs[1:]).sum(0).unsqueeze(-1)
        return ((self.embedding(inputs[0]) * weights).sum(1) * scale,)


def example(inputs: int, batch: int, length: int) -> tuple[torch.Tensor, ...]:
    return tuple(torch.randint(1000, (batch, length)) for _ in range(inputs))


def make(inputs: int, folder: Path) -> tuple[OneLength, torch.jit.ScriptModule]:
    """The eager module, and the dispatched one after a round trip through a file."""
    torch.manual_seed(0)
    eager = OneLength().eval()
    with record_tracer_warnings():
        traces = [trace(eager, example(inputs, 2, length)) for length in LENGTHS]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(dispatch_by_length(traces, LENGTHS, inputs), folder / "many.pt")
    save(traces[0], folder / "one.pt")
    return eager, load(folder / "many.pt", CPU)


@INPUTS
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("batch", [1, 3])
def test_each_length_runs_its_own_trace(
    tmp_path: Path, inputs: int, length: int, batch: int
) -> None:
    eager, dispatch = make(inputs, tmp_path)
    tensors = example(inputs, batch, length)
    assert torch.equal(dispatch(*tensors)[0], eager(*tensors)[0])
    assert not torch.equal(load(tmp_path / "one.pt", CPU)(*tensors)[0], eager(*tensors)[0]) or (
        length == LENGTHS[0]
    )


@INPUTS
@pytest.mark.parametrize("length", [1, 5, 13])
def test_length_that_was_not_traced_is_refused_by_name(
    tmp_path: Path, inputs: int, length: int
) -> None:
    _, dispatch = make(inputs, tmp_path)
    with pytest.raises(
        torch.jit.Error, match=rf"length {length} was not traced, only \[4, 8, 12\]"
    ):
        dispatch(*example(inputs, 1, length))


@INPUTS
def test_traces_share_their_parameters(tmp_path: Path, inputs: int) -> None:
    eager, dispatch = make(inputs, tmp_path)
    weights = [tensor for name, tensor in dispatch.state_dict().items() if "embedding" in name]
    assert len(weights) == len(LENGTHS)
    assert len({weight.data_ptr() for weight in weights}) == 1
    own = eager.embedding.weight.nbytes
    assert own < (tmp_path / "many.pt").stat().st_size < 1.5 * own
