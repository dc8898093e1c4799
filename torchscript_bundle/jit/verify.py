"""Compare a ScriptModule with the eager module that it was made from, shape by shape."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from torchscript_bundle.jit.structure import copy_tensors
from torchscript_bundle.jit.tracing import Tensors

Verdict = Literal["exact", "close", "wrong", "raised"]

TOLERANCE = 1e-5
#: Errors of operators about a size that a trace keeps as a constant.
TRACED_SIZE = re.compile(
    r"expanded size of the tensor|size of tensor a \(|is invalid for input of size"
    r"|out of range|out of bounds|setStorage|shapes cannot be multiplied|was not traced"
    r"|[Ss]izes of tensors must match|exceeds dimension size|elements in a list but found"
)


@dataclass(frozen=True)
class Shape:
    """One shape of the grid.

    Attributes:
        length: tokens in a row, padding included.
        padded: whether rows have padding, each another amount.
        spelled: whether the texts spell out special tokens, each another number of them.
        paired: whether each row has two texts.
    """

    batch: int
    length: int
    padded: bool = False
    spelled: bool = False
    paired: bool = False

    def __str__(self) -> str:
        filled = "padded" if self.padded else "unpadded"
        texts = " of two texts" if self.paired else ""
        extra = " with special tokens in the text" if self.spelled else ""
        return f"batch {self.batch}, length {self.length}, {filled} rows{texts}{extra}"


@dataclass(frozen=True)
class Case:
    """Inputs of one shape with the eager outputs, and their usual scales if these are near 0."""

    shape: Shape
    inputs: tuple[Any, ...]
    expected: Tensors
    scales: tuple[float, ...] = ()


@dataclass(frozen=True)
class Output:
    """The difference of one output.

    Attributes:
        max_abs: largest absolute difference; None if the two cannot be subtracted.
        max_rel: `max_abs` relative to the scale (largest absolute value) of the expected output, or
            to its usual scale if that is larger.
        message: what is wrong, in one line, or empty.
    """

    max_abs: float | None
    max_rel: float | None
    verdict: Verdict
    message: str = ""


@dataclass(frozen=True)
class Result:
    """The result of one case: the worst verdict of its outputs, or "raised", and why."""

    shape: Shape
    verdict: Verdict
    outputs: tuple[Output, ...] = ()
    message: str = ""

    @property
    def holds(self) -> bool:
        """Whether the outputs are the eager module's."""
        return self.verdict in ("exact", "close")

    @property
    def max_abs(self) -> float | None:
        """Largest absolute difference over all outputs."""
        return max((o.max_abs for o in self.outputs if o.max_abs is not None), default=None)

    @property
    def max_rel(self) -> float | None:
        """Largest relative difference over all outputs."""
        return max((o.max_rel for o in self.outputs if o.max_rel is not None), default=None)

    @property
    def is_traced_size(self) -> bool:
        """Whether it raised because the trace keeps a size of its example."""
        return self.verdict == "raised" and TRACED_SIZE.search(self.message) is not None

    def __str__(self) -> str:
        kept = " (the trace keeps a size of its example)" if self.is_traced_size else ""
        message = f", {self.message}" if self.message else ""
        return f"{self.shape}: {self.verdict}{message}{kept}"


@dataclass(frozen=True)
class Report:
    """The results of a grid, one for each case."""

    results: tuple[Result, ...]

    @property
    def holds(self) -> bool:
        """Whether every case holds, and there is one."""
        return bool(self.results) and self.broken is None

    @property
    def broken(self) -> Result | None:
        """The first case that does not hold; a wrong one before one that raised."""
        failed = [result for result in self.results if not result.holds]
        return min(failed, key=lambda result: result.verdict != "wrong", default=None)

    @property
    def worst(self) -> float:
        """Largest relative difference of all cases that did not raise."""
        return max((result.max_rel or 0.0 for result in self.results), default=0.0)

    def in_words(self) -> str:
        """Return what holds, such as `any batch, length 150 only`, and the first failure."""
        held = _largest_block(self.results)
        if held is None:
            return f"nothing holds; {self.broken}" if self.broken else "nothing was tried"
        batches, lengths = held
        all_batches = {result.shape.batch for result in self.results}
        all_lengths = {result.shape.length for result in self.results}
        words = ", ".join(
            [_words("batch", batches, all_batches), _words("length", lengths, all_lengths)]
        )
        return f"{words}; elsewhere: {self.broken}" if self.broken else words

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {
            "holds": self.in_words(),
            "worst_relative_difference": self.worst,
            "cases": [asdict(result) for result in self.results],
        }


def verify(
    eager: Callable[..., Any],
    scripted: Callable[..., Any],
    grid: Iterable[tuple[Shape, tuple[Any, ...]]],
    tolerance: float = TOLERANCE,
) -> Report:
    """Run a ScriptModule and the eager module on the same inputs.

    Args:
        eager: the original; what it raises is raised.
        scripted: takes and returns what `eager` does.
        grid: shapes, each with arguments of that shape.
        tolerance: relative to each output's scale. Integers and booleans must be equal.
    """
    return verify_cases(scripted, run_eager(eager, grid), tolerance)


def verify_cases(
    scripted: Callable[..., Any],
    cases: Iterable[Case],
    tolerance: float = TOLERANCE,
    *,
    stop_early: bool = False,
) -> Report:
    """Compare a ScriptModule with known outputs; `stop_early` ends at the first failure."""
    results: list[Result] = []
    for case in cases:
        results.append(compare(scripted, case, tolerance))
        if stop_early and not results[-1].holds:
            break
    return Report(tuple(results))


def run_eager(
    eager: Callable[..., Any], grid: Iterable[tuple[Shape, tuple[Any, ...]]]
) -> Iterator[Case]:
    """Yield the case of each shape; what the eager module raises is raised."""
    for shape, inputs in grid:
        yield Case(shape, inputs, _answer(eager, inputs))


def compare(scripted: Callable[..., Any], case: Case, tolerance: float = TOLERANCE) -> Result:
    """Run a ScriptModule on one case."""
    try:
        outputs = _answer(scripted, case.inputs)
    except Exception as error:  # operators raise errors of many classes
        return Result(case.shape, "raised", message=last_line(error))
    if len(outputs) != len(case.expected):
        message = f"{len(outputs)} outputs, expected {len(case.expected)}"
        return Result(case.shape, "wrong", message=message)
    scales = case.scales or (0.0,) * len(outputs)
    compared = tuple(
        _compare_output(*each, tolerance)
        for each in zip(outputs, case.expected, scales, strict=True)
    )
    verdicts = [output.verdict for output in compared]
    worst: Verdict = max(verdicts, key=("exact", "close", "wrong").index, default="exact")
    wrong = [f"output {at} {o.message}" for at, o in enumerate(compared) if o.message]
    return Result(case.shape, worst, compared, "; ".join(wrong))


def flatten(output: Any) -> Tensors:
    """Return the tensors of a nested output, in order and without `None`."""
    if output is None:
        return ()
    if isinstance(output, torch.Tensor):
        return (output,)
    if isinstance(output, Mapping):
        return flatten(tuple(output.values()))
    if isinstance(output, (tuple, list)):
        return tuple(tensor for member in output for tensor in flatten(member))
    if hasattr(output, "astuple"):
        return flatten(output.astuple())
    raise TypeError(f"an output is {type(output).__name__}, expected tensors")


def last_line(error: Exception) -> str:
    """Return the last line of a message: torch's begin with a stack and end with the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def _answer(module: Callable[..., Any], inputs: tuple[Any, ...]) -> Tensors:
    """Run a module on a copy of the inputs, since it may write into them."""
    with torch.no_grad():
        return flatten(module(*copy_tensors(inputs)))


def _compare_output(
    output: torch.Tensor, expected: torch.Tensor, usual: float, tolerance: float
) -> Output:
    if output.shape != expected.shape or output.dtype != expected.dtype:
        found, wanted = (f"{each.dtype} {list(each.shape)}" for each in (output, expected))
        return Output(None, None, "wrong", f"is {found}, expected {wanted}")
    if not bool(torch.isfinite(expected).all() and torch.isfinite(output).all()):
        return Output(None, None, "wrong", "is not finite, here or in the eager module")
    if expected.numel() == 0 or torch.equal(output, expected):
        return Output(0.0, 0.0, "exact")
    wide = torch.complex128 if expected.is_complex() else torch.float64
    difference = float((output.to(wide) - expected.to(wide)).abs().max())
    scale = max(usual, float(expected.to(wide).abs().max()))
    relative = difference / scale if scale else difference
    inexact = expected.is_floating_point() or expected.is_complex()
    if inexact and relative <= tolerance:
        return Output(difference, relative, "close")
    allowed = tolerance if inexact else 0
    message = f"differs by {relative:.2g} of its scale (allowed {allowed:.0g})"
    return Output(difference, relative, "wrong", message)


def _largest_block(results: Iterable[Result]) -> tuple[list[int], list[int]] | None:
    """Return batches and lengths of which every tried combination holds.

    All batches come before all lengths, and these before the batch with the most lengths.
    """
    fine: dict[tuple[int, int], bool] = {}
    for result in results:
        at = (result.shape.batch, result.shape.length)
        fine[at] = fine.get(at, True) and result.holds
    batches = sorted({batch for batch, _ in fine})
    lengths = sorted({length for _, length in fine})
    some_lengths = [n for n in lengths if all(fine.get((b, n), True) for b in batches)]
    if some_lengths:
        return batches, some_lengths
    some_batches = [b for b in batches if all(fine.get((b, n), True) for n in lengths)]
    if some_batches:
        return some_batches, lengths
    held = {b: [n for n in lengths if fine.get((b, n))] for b in batches}
    batch = max(batches, key=lambda b: len(held[b]), default=None)
    return None if batch is None or not held[batch] else ([batch], held[batch])


def _words(name: str, held: list[int], tried: set[int]) -> str:
    if len(held) == 1:
        return f"{name} {held[0]} only"
    if set(held) != tried:
        return f"{name} {', '.join(map(str, held[:-1]))} or {held[-1]} only"
    return f"any {name}" if name == "batch" else f"any {name} from {held[0]} to {held[-1]}"
