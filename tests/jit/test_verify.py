"""Verdicts: exact, close, wrong, raised."""

from __future__ import annotations

import pytest
import torch

from torchscript_bundle.jit.compilation import trace
from torchscript_bundle.jit.tracing import Tensors, record_tracer_warnings
from torchscript_bundle.jit.verify import Case, Shape, compare, run_eager

TOLERANCE = 1e-5
SHAPE = Shape(batch=2, length=4, padded=True)
EXPECTED = torch.tensor([[1.0, -100.0], [0.5, 3.0]])
NAN, INF = float("nan"), float("inf")


def verdict(*outputs: torch.Tensor, expected: Tensors = (EXPECTED,)) -> tuple[str, str]:
    case = Case(SHAPE, (torch.zeros(2, 4),), expected)
    result = compare(lambda _: outputs, case, TOLERANCE)
    assert result.shape == SHAPE
    assert result.holds == (result.verdict in ("exact", "close"))
    return result.verdict, result.message


def test_equal_bits_are_exact() -> None:
    assert verdict(EXPECTED.clone()) == ("exact", "")
    assert verdict(torch.zeros(2, 2), expected=(torch.zeros(2, 2),)) == ("exact", "")
    whole = torch.tensor([[1, 2]])
    assert verdict(whole, EXPECTED, expected=(whole, EXPECTED)) == ("exact", "")


@pytest.mark.parametrize(
    ("difference", "expected"),
    [(9e-4, "close"), (-9e-4, "close"), (2e-3, "wrong"), (-2e-3, "wrong")],
)
def test_difference_is_measured_by_the_scale_of_the_output(
    difference: float, expected: str
) -> None:
    case = Case(SHAPE, (torch.zeros(2, 4),), (EXPECTED,))
    outputs = (EXPECTED + torch.tensor([[difference, 0.0], [0.0, 0.0]]),)
    result = compare(lambda _: outputs, case, TOLERANCE)
    assert result.verdict == expected
    assert result.max_abs == pytest.approx(abs(difference), rel=1e-3)
    assert result.max_rel == pytest.approx(abs(difference) / 100, rel=1e-3)
    assert (result.message == "") == result.holds


def test_each_output_has_a_scale_of_its_own() -> None:
    small = torch.tensor([[1e-3]])
    assert verdict(EXPECTED, small + 1e-5, expected=(EXPECTED, small))[0] == "wrong"
    assert verdict(small + 1e-5, EXPECTED, expected=(small, EXPECTED))[0] == "wrong"


def test_any_difference_from_zeros_counts_whole() -> None:
    zeros = torch.zeros(2, 2)
    assert verdict(zeros + 9e-6, expected=(zeros,))[0] == "close"
    assert verdict(zeros + 2e-5, expected=(zeros,))[0] == "wrong"


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("side", ["module", "eager", "both"])
def test_what_is_not_finite_is_wrong_on_either_side(value: float, side: str) -> None:
    broken = EXPECTED.clone()
    broken[1, 1] = value
    output = EXPECTED if side == "eager" else broken
    expected = EXPECTED if side == "module" else broken
    assert verdict(output, expected=(expected,)) == (
        "wrong",
        "output 0 is not finite, here or in the eager module",
    )


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        ((EXPECTED[:1],), "output 0 is torch.float32 [1, 2], expected torch.float32 [2, 2]"),
        ((EXPECTED[:, :1],), "output 0 is torch.float32 [2, 1]"),
        ((EXPECTED.unsqueeze(0),), "output 0 is torch.float32 [1, 2, 2]"),
        ((EXPECTED.double(),), "output 0 is torch.float64 [2, 2], expected torch.float32"),
        ((), "0 outputs, expected 1"),
        ((EXPECTED, EXPECTED), "2 outputs, expected 1"),
    ],
)
def test_another_form_is_wrong_and_said(outputs: Tensors, says: str) -> None:
    word, message = verdict(*outputs)
    assert (word, says in message) == ("wrong", True)


class FrozenBatch(torch.nn.Module):
    """Its trace keeps the batch that it saw."""

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor]:
        return (ids.float().reshape(int(ids.shape[0]), -1).cumsum(1),)


class FrozenLength(torch.nn.Module):
    """Its trace keeps the length that it saw, and still runs at others."""

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor]:
        return (ids.float().sum(1, keepdim=True) / float(ids.shape[1]),)


def make_inputs(shape: Shape) -> Tensors:
    return (torch.arange(shape.batch * shape.length).reshape(shape.batch, shape.length),)


def try_grid(module: torch.nn.Module) -> dict[str, str]:
    """The verdict on a trace at batch 2 and length 4, by shape."""
    shapes = [SHAPE, Shape(3, 4, False), Shape(2, 5, False)]
    with record_tracer_warnings():
        traced = trace(module, make_inputs(SHAPE))
    pairs = [(shape, make_inputs(shape)) for shape in shapes]
    results = [compare(traced, case, TOLERANCE) for case in run_eager(module, pairs)]
    for result in results:
        assert result.holds == (result.message == "")
        assert "\n" not in result.message
    return {str(result.shape): result.verdict for result in results}


def test_trace_that_keeps_the_batch_is_found_out() -> None:
    assert try_grid(FrozenBatch()) == {
        "batch 2, length 4, padded rows": "exact",
        "batch 3, length 4, unpadded rows": "wrong",
        "batch 2, length 5, unpadded rows": "exact",
    }


def test_trace_that_keeps_the_length_is_found_out() -> None:
    assert try_grid(FrozenLength()) == {
        "batch 2, length 4, padded rows": "exact",
        "batch 3, length 4, unpadded rows": "exact",
        "batch 2, length 5, unpadded rows": "wrong",
    }


def test_trace_that_fails_has_raised_with_its_last_line() -> None:
    module = torch.nn.Linear(4, 2).eval()
    traced = trace(module, (torch.ones(2, 4),))
    case = Case(SHAPE, (torch.ones(2, 5),), (torch.ones(2, 2),))
    result = compare(traced, case, TOLERANCE)
    assert (result.verdict, result.holds, result.max_abs, result.max_rel) == (
        "raised",
        False,
        None,
        None,
    )
    assert "mat1 and mat2 shapes cannot be multiplied" in result.message


def test_eager_module_that_fails_is_not_hidden() -> None:
    class Picky(torch.nn.Module):
        def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor]:
            raise ValueError("no such length")

    with pytest.raises(ValueError, match="no such length"):
        list(run_eager(Picky(), [(SHAPE, make_inputs(SHAPE))]))
