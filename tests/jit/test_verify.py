"""Verdicts (exact, close, wrong, raised), and what a report says of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from tests.jit.helpers import TupleCache
from torchscript_bundle.jit.attention import AttentionMask
from torchscript_bundle.jit.buckets import dispatch_by_length
from torchscript_bundle.jit.compilation import trace
from torchscript_bundle.jit.tracing import Tensors, record_tracer_warnings
from torchscript_bundle.jit.types import DataclassAsTuple
from torchscript_bundle.jit.verify import (
    Case,
    Report,
    Result,
    Shape,
    compare,
    flatten,
    run_eager,
    verify,
    verify_cases,
)

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


@pytest.mark.parametrize(
    ("expected", "off"),
    [
        (torch.tensor([250_000, 7]), torch.tensor([250_001, 7])),
        (torch.tensor([True, True]), torch.tensor([True, False])),
    ],
)
def test_integers_and_booleans_have_no_tolerance(expected: torch.Tensor, off: torch.Tensor) -> None:
    """The next id of a large vocabulary is within 1e-5 of its scale, and is another word."""
    assert verdict(expected.clone(), expected=(expected,)) == ("exact", "")
    word, message = verdict(off, expected=(expected,))
    assert (word, message.endswith("(allowed 0)")) == ("wrong", True)


def test_complex_numbers_are_compared_whole() -> None:
    expected = torch.tensor([3 + 4j])
    assert verdict(expected * (1 + 1e-6), expected=(expected,))[0] == "close"
    assert verdict(expected + 1j, expected=(expected,))[0] == "wrong"
    assert verdict(expected.conj().resolve_conj(), expected=(expected,))[0] == "wrong"


def test_error_without_words_is_told_by_its_class() -> None:
    def fail(_: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    result = compare(fail, Case(SHAPE, make_inputs(SHAPE), (EXPECTED,)))
    assert (result.verdict, result.message) == ("raised", "NotImplementedError")


# What an output may be.

ONE, TWO = torch.tensor([1.0]), torch.tensor([2.0])


@dataclass
class Answer(DataclassAsTuple):
    logits: torch.Tensor
    loss: torch.Tensor | None = None
    layers: list[torch.Tensor] | None = None


@pytest.mark.parametrize(
    ("output", "tensors"),
    [
        (ONE, [ONE]),
        ((ONE, TWO), [ONE, TWO]),
        ([[ONE], [], [[TWO, ONE]]], [ONE, TWO, ONE]),
        ({"b": TWO, "a": (ONE, None)}, [TWO, ONE]),
        (Answer(ONE), [ONE]),
        ((TWO, Answer(ONE, layers=[TWO, TWO])), [TWO, ONE, TWO, TWO]),
        (AttentionMask(torch.tensor([[1]])), [torch.tensor([[True]])]),
        (None, []),
    ],
)
def test_tensors_of_an_output_come_in_order(output: Any, tensors: list[torch.Tensor]) -> None:
    flat = flatten(output)
    assert isinstance(flat, tuple)
    assert len(flat) == len(tensors)
    assert all(map(torch.equal, flat, tensors))


@pytest.mark.parametrize(("output", "kind"), [(3, "int"), ([ONE, "two"], "str")])
def test_output_that_is_no_tensor_is_refused(output: Any, kind: str) -> None:
    with pytest.raises(TypeError, match=f"^an output is {kind}, expected tensors$"):
        flatten(output)


# Reports, on real traces at batch 2 and length 4.


class Sums(torch.nn.Module):
    """Nothing of the shape is kept."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return ids.float().cumsum(1)


class FrozenRows(torch.nn.Module):
    """Its trace keeps the batch as the most rows that it returns."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return ids[: int(ids.shape[0])].float().cumsum(1)


class FrozenBoth(torch.nn.Module):
    """Its trace raises at another batch, and is wrong at another length."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return (ids.float().sum(1) / float(ids.shape[1])).view(int(ids.shape[0]), 1)


class FrozenExpand(torch.nn.Module):
    """Its trace raises wherever the shape is another."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return ids.float().expand(int(ids.shape[0]), int(ids.shape[1]))


class HalfFrozen(torch.nn.Module):
    """The second of its outputs keeps the length."""

    def forward(self, ids: torch.Tensor) -> Answer:
        whole, frozen = Sums()(ids), ids.float().sum(1) / float(ids.shape[1])
        return Answer(whole, loss=frozen).jit_unwrap()


class TwoInputs(torch.nn.Module):
    """Keeps the length, and takes what `dispatch_by_length` passes."""

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor]:
        return ((ids * mask).sum(1) / float(ids.shape[1]),)


def make_grid(batches: Sequence[int], lengths: Sequence[int]) -> list[tuple[Shape, Tensors]]:
    shapes = [Shape(batch, length) for batch in batches for length in lengths]
    return [(shape, make_inputs(shape)) for shape in shapes]


def make_trace(module: torch.nn.Module) -> torch.jit.ScriptModule:
    with record_tracer_warnings():
        return trace(module, make_inputs(SHAPE))


def report_on(
    module: torch.nn.Module, batches: Sequence[int], lengths: Sequence[int] = (4, 9)
) -> Report:
    return verify(module, make_trace(module), make_grid(batches, lengths))


def dispatch_report(traced: Sequence[int], tried: Sequence[int]) -> Report:
    """On a module that has a trace for each of some lengths."""
    module = TwoInputs()
    with record_tracer_warnings():
        traces = [trace(module, make_inputs(Shape(2, length)) * 2) for length in traced]
    grid = [(shape, inputs * 2) for shape, inputs in make_grid((1, 3), tried)]
    return verify(module, dispatch_by_length(traces, traced, inputs=2), grid)


OFF = "wrong, output 0 differs by"


@pytest.mark.parametrize(
    ("module", "batches", "lengths", "held", "elsewhere"),
    [
        (Sums(), (1, 2, 5), (4, 9, 16), "any batch, any length from 4 to 16", None),
        (Sums(), (2,), (4,), "batch 2 only, length 4 only", None),
        (
            FrozenBatch(),
            (1, 2, 5),
            (4, 10),
            "batch 2 only, any length from 4 to 10",
            "batch 1, length 4, unpadded rows: wrong, output 0 is torch.float32 [2, 2]",
        ),
        (
            FrozenRows(),
            (1, 2, 5),
            (4, 9),
            "batch 1 or 2 only, any length from 4 to 9",
            "batch 5, length 4, unpadded rows: wrong, output 0 is torch.float32 [2, 4]",
        ),
        (
            FrozenLength(),
            (1, 2, 5),
            (4, 9),
            "any batch, length 4 only",
            f"batch 1, length 9, unpadded rows: {OFF} 1.2 of its scale",
        ),
        (
            FrozenBoth(),
            (1, 2),
            (4, 9),
            "batch 2 only, length 4 only",
            f"batch 2, length 9, unpadded rows: {OFF} 1.2 of its scale",
        ),
        (
            FrozenLength(),
            (1, 2),
            (9, 16),
            "nothing holds",
            f"batch 1, length 9, unpadded rows: {OFF} 1.2 of its scale",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, torch.nn.Module) else None,
)
def test_report_says_in_words_what_holds_and_what_happens_elsewhere(
    module: torch.nn.Module,
    batches: Sequence[int],
    lengths: Sequence[int],
    held: str,
    elsewhere: str | None,
) -> None:
    report = report_on(module, batches, lengths)
    words, _, rest = report.in_words().partition("; ")
    assert words == held
    assert rest.removeprefix("elsewhere: ").startswith(elsewhere or "")
    assert bool(rest) == (elsewhere is not None)
    assert report.holds == (elsewhere is None)


@pytest.mark.parametrize(
    ("traced", "tried", "held"),
    [
        ((4, 9), (4, 9, 16), "length 4 or 9 only"),
        ((4, 9, 16), (4, 9, 12, 16), "length 4, 9 or 16 only"),
        ((4, 9), (4, 9), "any length from 4 to 9"),
    ],
)
def test_some_lengths_are_named(traced: tuple[int, ...], tried: tuple[int, ...], held: str) -> None:
    assert dispatch_report(traced, tried).in_words().split(";")[0] == f"any batch, {held}"


def test_batch_with_the_most_lengths_is_named_where_none_holds_at_all() -> None:
    right = {(1, 4), (2, 8), (2, 16)}
    module, grid = Sums(), make_grid((1, 2), (4, 8, 16))

    def sometimes(ids: torch.Tensor) -> torch.Tensor:
        return module(ids) if tuple(ids.shape) in right else module(ids) + 1

    words = verify(module, sometimes, grid).in_words()
    assert words.startswith("batch 2 only, length 8 or 16 only; elsewhere: batch 1, length 8,")


def test_shape_holds_only_if_padded_rows_hold_as_well() -> None:
    class Shortcut(torch.nn.Module):
        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return ids.float() if bool((ids == 0).any()) else ids.float() * 2

    padded, whole = torch.tensor([[3, 0]]), torch.tensor([[3, 5]])
    with record_tracer_warnings():
        traced = trace(Shortcut(), (whole,))
    grid = [(Shape(1, 2), (whole,)), (Shape(1, 2, padded=True), (padded,))]
    report = verify(Shortcut(), traced, grid)
    assert [result.verdict for result in report.results] == ["exact", "wrong"]
    assert report.in_words().startswith("nothing holds; batch 1, length 2, padded rows: wrong")


def test_wrong_answer_is_told_before_one_that_raised() -> None:
    report = report_on(FrozenBoth(), (1, 2))
    assert [result.verdict for result in report.results] == ["raised", "raised", "exact", "wrong"]
    assert report.broken is report.results[3]
    raised = Report(report.results[:3])
    assert raised.broken is report.results[0]


def test_report_of_no_case_does_not_hold() -> None:
    report = Report(())
    assert not report.holds
    assert report.broken is None
    assert report.in_words() == "nothing was tried"
    assert report.as_dict() == {
        "holds": "nothing was tried",
        "worst_relative_difference": 0.0,
        "cases": [],
    }


def test_worst_is_the_largest_difference_of_any_answer() -> None:
    module = Sums()
    factors = iter([1.0, 1 + 4e-6, 1 + 1e-6])
    grid = make_grid((1, 2, 5), (4,))
    report = verify(module, lambda ids: module(ids) * next(factors), grid)
    assert [result.verdict for result in report.results] == ["exact", "close", "close"]
    assert report.holds
    assert report.worst == report.results[1].max_rel == pytest.approx(4e-6, rel=0.1)
    assert Report(report_on(FrozenExpand(), (1, 2)).results[:1]).worst == 0.0


def test_report_is_the_same_after_json() -> None:
    report = report_on(HalfFrozen(), (2,))
    said = report.as_dict()
    read = json.loads(json.dumps(said, allow_nan=False))
    assert read["holds"] == report.in_words()
    assert read["worst_relative_difference"] == report.worst > 0
    exact, wrong = read["cases"]
    fine = {"max_abs": 0.0, "max_rel": 0.0, "verdict": "exact", "message": ""}
    assert exact == {
        "shape": {"batch": 2, "length": 4, "padded": False, "spelled": False, "paired": False},
        "verdict": "exact",
        "outputs": [fine, fine],
        "message": "",
    }
    assert wrong["verdict"] == "wrong"
    assert wrong["outputs"][0] == fine


def test_each_output_has_a_difference_of_its_own() -> None:
    result = report_on(HalfFrozen(), (2,)).results[1]
    sums, frozen = result.outputs
    assert (sums.verdict, sums.max_abs, sums.max_rel) == ("exact", 0.0, 0.0)
    expected = HalfFrozen()(*make_inputs(Shape(2, 9))).loss
    assert expected is not None
    # Divided by the traced length, 4, in place of 9.
    assert frozen.verdict == "wrong"
    assert frozen.max_abs == pytest.approx(float(expected.max()) * (9 / 4 - 1))
    assert frozen.max_rel == pytest.approx(9 / 4 - 1)
    assert (result.max_abs, result.max_rel) == (frozen.max_abs, frozen.max_rel)
    assert result.message == f"output 1 {frozen.message}"


def test_typed_output_is_compared_with_the_traces_tuple() -> None:
    eager = HalfFrozen()(*make_inputs(SHAPE))
    assert isinstance(eager, Answer)
    assert isinstance(make_trace(HalfFrozen())(*make_inputs(SHAPE)), tuple)
    assert report_on(HalfFrozen(), (1, 2, 5), (4,)).holds


# A size that the trace keeps: it says so itself, or it answers.


@pytest.mark.parametrize(
    ("report", "says"),
    [
        (lambda: report_on(FrozenExpand(), (3,)), "The expanded size of the tensor (2) must match"),
        (lambda: report_on(FrozenBoth(), (3,)), "shape '[2, 1]' is invalid for input of size 3"),
        (lambda: dispatch_report((4, 9), (16,)), "length 16 was not traced, only [4, 9]"),
    ],
    ids=["expand", "view", "dispatch"],
)
def test_error_about_a_kept_size_is_explained(report: Callable[[], Report], says: str) -> None:
    result = report().results[0]
    assert result.is_traced_size
    assert says in result.message
    explained = f"{result.message} (the trace keeps a size of its example)"
    assert str(result) == f"{result.shape}: raised, {explained}"


def test_wrong_answer_and_other_errors_are_not_called_a_kept_size() -> None:
    def fail(_: torch.Tensor) -> torch.Tensor:
        raise ValueError("no such word")

    wrong = report_on(FrozenLength(), (2,)).results[1]
    other = compare(fail, Case(SHAPE, make_inputs(SHAPE), (EXPECTED,)))
    for result in (wrong, other):
        assert not result.is_traced_size
        assert str(result) == f"{result.shape}: {result.verdict}, {result.message}"
    assert other.message == "no such word"


def test_result_that_holds_is_one_word() -> None:
    [result] = report_on(Sums(), (2,), (4,)).results
    assert str(result) == "batch 2, length 4, unpadded rows: exact"
    spelled = Result(Shape(1, 8, padded=True, spelled=True), "close")
    assert str(spelled) == ("batch 1, length 8, padded rows with special tokens in the text: close")


# How the two are run.


def test_stop_early_ends_at_the_first_case_that_does_not_hold() -> None:
    seen: list[torch.Size] = []

    class Notes(FrozenLength):
        def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor]:
            seen.append(ids.shape)
            return super().forward(ids)

    traced = make_trace(FrozenLength())
    grid = make_grid((1, 2), (4, 9))
    early = verify_cases(traced, run_eager(Notes(), grid), stop_early=True)
    assert [result.verdict for result in early.results] == ["exact", "wrong"]
    assert len(seen) == 2
    whole = verify_cases(traced, run_eager(Notes(), grid))
    assert [result.shape for result in whole.results] == [shape for shape, _ in grid]
    assert whole == verify(FrozenLength(), traced, grid)
    assert early.results == whole.results[:2]
    assert verify_cases(traced, run_eager(Notes(), grid[:1]), stop_early=True).holds


def test_tolerance_is_the_callers() -> None:
    module, grid = Sums(), make_grid((2,), (4,))

    def off(ids: torch.Tensor) -> torch.Tensor:
        return module(ids) * 1.0001

    assert not verify(module, off, grid).holds
    assert verify(module, off, grid, tolerance=1e-3).holds
    assert not verify_cases(off, run_eager(module, grid)).holds
    assert verify_cases(off, run_eager(module, grid), 1e-3).holds


def test_module_that_writes_into_its_inputs_is_compared_all_the_same() -> None:
    class Writes(torch.nn.Module):
        def __init__(self, factor: int) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return ids.mul_(self.factor)

    grid = make_grid((1, 2), (4,))
    right, wrong = make_trace(Writes(2)), make_trace(Writes(3))
    for _ in range(2):
        assert verify(Writes(2), right, grid).holds
        assert not verify(Writes(2), wrong, grid).holds
    assert all(torch.equal(*make_inputs(shape), *inputs) for shape, inputs in grid)


def test_typed_inputs_are_passed_as_they_are() -> None:
    class Counts(torch.nn.Module):
        def forward(self, mask: AttentionMask) -> torch.Tensor:
            return AttentionMask.jit_rewrap(mask).int64().sum(1)

    def mask(shape: Shape) -> AttentionMask:
        return AttentionMask(torch.ones(shape.batch, shape.length, dtype=torch.bool))

    grid = [(shape, (mask(shape),)) for shape, _ in make_grid((1, 3), (4, 9))]
    assert verify(Counts(), trace(Counts(), (mask(SHAPE),)), grid).holds


@pytest.mark.parametrize("wrong", [False, True])
def test_inputs_that_cannot_be_deep_copied_are_no_hindrance(wrong: bool) -> None:
    class Grows(torch.nn.Module):
        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by

        def forward(self, cache: Any) -> torch.Tensor:
            key, value = cache
            return key.mul_(2) + value * self.by

    def cache(shape: Shape) -> TupleCache:
        return TupleCache(torch.ones(shape.batch, shape.length), torch.ones(1))

    grid = [(shape, (cache(shape),)) for shape, _ in make_grid((1, 3), (4, 9))]
    traced = trace(Grows(4 if wrong else 3), (cache(SHAPE),))
    assert verify(Grows(3), traced, grid).holds == (not wrong)
    assert all(bool((inputs[0].key == 1).all()) for _, inputs in grid)


def test_gradients_are_off_inside_and_as_before_outside() -> None:
    linear = torch.nn.Linear(4, 2)
    grid = [(SHAPE, (torch.ones(2, 4),))] * 2
    cases = run_eager(linear, grid)
    first = next(cases)
    assert torch.is_grad_enabled()
    assert not first.expected[0].requires_grad
    assert verify(linear, trace(linear, (torch.ones(2, 4),)), grid).holds
    assert torch.is_grad_enabled()
