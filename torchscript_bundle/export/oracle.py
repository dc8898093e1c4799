"""Run the eager model, whose outputs a trace is compared with."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from tqdm import tqdm

from torchscript_bundle.export.claims import BATCHES, LENGTHS, Claim, grid
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.inputs import InputMaker
from torchscript_bundle.jit.tracing import Tensors
from torchscript_bundle.jit.verify import Case, Shape, compare, last_line, run_eager

#: Rows of the cases that are split for claims of one row, and of those that measure padding.
ROWS = 5
NOT_TOGETHER = "the model itself cannot run such rows together"


def run_grid(
    eager: torch.nn.Module,
    make_inputs: InputMaker,
    lengths: tuple[int, ...],
    batches: Sequence[int] = BATCHES,
) -> list[Case]:
    """Run the eager model at every shape of the grid; ExportError if it fails or varies.

    A case has no expected outputs where the model cannot take rows with special tokens in the text
    together: BART wants as many ends of sentence in each row.
    """
    # First, while the model has seen nothing else.
    longest = Shape(2, lengths[-1], padded=True)
    before = _needed_answer(eager, make_inputs, longest)
    shortest = _shortest(eager, make_inputs)
    cases: list[Case] = []
    shapes = grid(lengths[-1], lengths, shortest, batches)
    for shape in tqdm(shapes, desc="      eager model", unit="shape", leave=False, disable=None):
        if not shape.spelled and shape.length != shortest:
            cases.append(_needed_answer(eager, make_inputs, shape))
            continue
        try:
            cases.append(_answer(eager, make_inputs, shape))
        except ExportError:
            if shape.spelled and shape.batch > 1:
                cases.append(Case(shape, make_inputs(shape), ()))
    _check_repeats(before, _answer(eager, make_inputs, longest))
    scales = _usual_scales(cases)
    return [replace(case, scales=scales) if case.expected else case for case in cases]


def _usual_scales(cases: Sequence[Case]) -> tuple[float, ...]:
    """Return the median scale of each output: one case's logits may all happen to be near 0."""
    answered = [case.expected for case in cases if case.expected]
    return tuple(
        statistics.median(float(each.abs().max()) for each in output)
        for output in zip(*answered, strict=True)
    )


def _shortest(eager: torch.nn.Module, make_inputs: InputMaker) -> int:
    """Return the length of the shortest text that the model takes: Funnel needs some to pool."""
    for length in range(make_inputs.shortest, min(LENGTHS)):
        try:
            _answer(eager, make_inputs, Shape(1, length))
        except ExportError:
            continue
        return length
    return min(LENGTHS)


def _answer(eager: torch.nn.Module, make_inputs: InputMaker, shape: Shape) -> Case:
    shape = replace(shape, paired=make_inputs.pairs)
    try:
        return next(run_eager(eager, [(shape, make_inputs(shape))]))
    except Exception as error:  # a model's own code runs here
        raise ExportError(f"the model itself fails at {shape}: {last_line(error)}") from error


def _needed_answer(eager: torch.nn.Module, make_inputs: InputMaker, shape: Shape) -> Case:
    """Run a shape that the model must take; on failure, try other shapes to find a remedy."""
    try:
        return _answer(eager, make_inputs, shape)
    except ExportError as error:
        if make_inputs.highest_type and _runs(eager, make_inputs, shape, typed=False):
            raise ExportError(_lacks_type(make_inputs)) from error
        length = _longest(eager, make_inputs, shape.length)
        remedy = f"lower max_length to {length}, at which it runs" if length else ""
        raise ExportError(f"{error}; {remedy or 'choose another model'}") from error


def _runs(
    eager: torch.nn.Module, make_inputs: InputMaker, shape: Shape, *, typed: bool = True
) -> bool:
    """Return whether the model takes rows of a shape, with their token types or without."""
    inputs = make_inputs(shape)
    try:
        next(run_eager(eager, [(shape, inputs if typed else make_inputs.without_types(inputs))]))
    except Exception:  # a model's own code runs here
        return False
    return True


def _lacks_type(make_inputs: InputMaker) -> str:
    whom = "the second of two texts" if make_inputs.pairs else "a text or its padding"
    return (
        f"the model has no embedding for token type {make_inputs.highest_type}, which its "
        f"tokenizer gives {whom}; if it was trained without token types, take token_type_ids out "
        "of model_input_names in its tokenizer_config.json, else choose another model"
    )


def _longest(eager: torch.nn.Module, make_inputs: InputMaker, failed: int) -> int | None:
    """Return the longest length below `failed` at which the model runs, by bisection."""
    low, high = make_inputs.shortest, failed
    if not _runs(eager, make_inputs, Shape(1, low)):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if _runs(eager, make_inputs, Shape(1, middle)):
            low = middle
        else:
            high = middle
    return low


def _check_repeats(before: Case, after: Case) -> None:
    """Refuse a model that is random or remembers texts.

    BigBird turns its sparse attention off for good at the first short text.
    """
    result = compare(lambda *_: before.expected, after)
    if not result.holds:
        raise ExportError(
            f"the model itself answers the same text differently after others ({result.message}), "
            "so nothing can be proven of it; choose another model, or another max_length"
        )


def covered(
    eager: torch.nn.Module, cases: Sequence[Case], claim: Claim, lengths: tuple[int, ...]
) -> list[Case]:
    """Return the cases of a claim; a claim of one row also gets each row of larger batches.

    A trace that baked in a choice by the content of its example must meet other texts.
    """
    found = [case for case in cases if claim.covers(case.shape, lengths)]
    if claim.dynamic_batch:
        return found
    for case in cases:
        if case.shape.batch == ROWS and claim.covers(replace(case.shape, batch=1), lengths):
            found += _rows(eager, case)
    return found


def rows_apart(eager: torch.nn.Module, cases: Sequence[Case], tolerance: float) -> str | None:
    """Return why rows must not share a batch, by the first case that shows it, or None.

    A trace is the same program for every batch; eager code may look at the whole batch, so that
    neighbours change a row's output. Differences up to `tolerance` of an output's scale are
    rounding.
    """
    for case in cases:
        if not case.expected:
            return f"{case.shape}: {NOT_TOGETHER}"
        if case.shape.batch == ROWS:
            result = compare(_alone(eager, case), case, tolerance)
            if not result.holds:
                return f"{case.shape}: rows answer otherwise together than alone ({result.message})"
    return None


def _alone(eager: torch.nn.Module, case: Case) -> Callable[..., Tensors]:
    """Return a function that gives the outputs of a case's rows, each run alone."""
    rows = [each.expected for each in _rows(eager, case)]
    return lambda *_: tuple(torch.cat(outputs) for outputs in zip(*rows, strict=True))


def _rows(eager: torch.nn.Module, case: Case) -> Iterator[Case]:
    single = replace(case.shape, batch=1)
    rows = zip(*(tensor.split(1) for tensor in case.inputs), strict=True)
    alone = run_eager(eager, [(single, row) for row in rows])
    return (replace(each, scales=case.scales) for each in alone)


def padding_effect(eager: torch.nn.Module, make_inputs: InputMaker, max_length: int) -> float:
    """Return how much padding changes the eager model's outputs, relative to their scale.

    Padding of per-token outputs does not count. Rounding gives about 1e-6. More means that the
    architecture reads padding in spite of the mask, so that no padded batch is exact.
    """
    half = max(4, max_length // 2)
    # Two lengths, since Funnel reads padding only where an odd token is pooled with it.
    two = (half, min(half + 1, max_length))
    return max(_effect_at(eager, make_inputs, length, max_length) for length in two)


def _effect_at(
    eager: torch.nn.Module, make_inputs: InputMaker, length: int, max_length: int
) -> float:
    inputs = make_inputs(Shape(ROWS, length, padded=False))
    with torch.no_grad():
        case = Case(Shape(ROWS, max_length, padded=True), inputs, eager(*inputs))
        outputs = eager(*make_inputs.pad(inputs, max_length))
    real = [
        make_inputs.unpad(padded, length) if padded.shape != alone.shape else padded
        for padded, alone in zip(outputs, case.expected, strict=True)
    ]
    result = compare(lambda *_: real, case)
    return 1.0 if result.max_rel is None else result.max_rel
