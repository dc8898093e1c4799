"""Proof by trial: a ScriptModule beside the eager module it was made from, shape by shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from torchscript_bundle.jit.tracing import Tensors

Verdict = Literal["exact", "close", "wrong", "raised"]


@dataclass(frozen=True)
class Shape:
    """One entry of the grid.

    Attributes:
        batch: rows.
        length: tokens in a row, padding included.
        padded: whether rows hold padding (of a different amount each).
        spelled: whether rows hold special tokens among the others, each another number of them, as
            texts do that spell them out.
    """

    batch: int
    length: int
    padded: bool
    spelled: bool = False

    def __str__(self) -> str:
        filled = "padded" if self.padded else "unpadded"
        extra = " with special tokens in the text" if self.spelled else ""
        return f"batch {self.batch}, length {self.length}, {filled} rows{extra}"


@dataclass(frozen=True)
class Case:
    """Inputs of one shape with what the eager module answers to them."""

    shape: Shape
    inputs: Tensors
    expected: Tensors


@dataclass(frozen=True)
class Result:
    """How a ScriptModule did on one case.

    Attributes:
        shape: the case.
        verdict: exact (bitwise), close (within the tolerance), wrong, or raised.
        max_abs: largest absolute difference over all outputs; None if it raised.
        max_rel: the same relative to the scale (largest absolute value) of the expected output.
        message: what went wrong, in one line; empty if nothing did.
    """

    shape: Shape
    verdict: Verdict
    max_abs: float | None
    max_rel: float | None
    message: str = ""

    @property
    def holds(self) -> bool:
        """Whether the answer is the eager module's."""
        return self.verdict in ("exact", "close")


def run_eager(
    eager: torch.nn.Module, grid: Iterable[Shape], make_inputs: Callable[[Shape], Tensors]
) -> Iterator[Case]:
    """Yields each shape's inputs and the eager module's answer, one by one.

    Raises:
        Exception: whatever the eager module raises at a shape that it cannot take.
    """
    for shape in grid:
        inputs = make_inputs(shape)
        with torch.no_grad():
            yield Case(shape, inputs, eager(*inputs))


def compare(scripted: Callable[..., Tensors], case: Case, tolerance: float) -> Result:
    """Runs a ScriptModule on a case.

    Args:
        scripted: takes the case's inputs.
        case: inputs and expected outputs.
        tolerance: largest difference allowed, relative to each output's scale.
    """
    try:
        with torch.no_grad():
            outputs = scripted(*case.inputs)
    except Exception as error:  # a trace at a foreign shape raises whatever its operators do
        return Result(case.shape, "raised", None, None, last_line(error))
    if len(outputs) != len(case.expected):
        message = f"{len(outputs)} outputs, expected {len(case.expected)}"
        return Result(case.shape, "wrong", None, None, message)
    return _compare_outputs(case, outputs, tolerance)


def last_line(error: Exception) -> str:
    """What went wrong: torch's messages begin with a stack and end with the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def _compare_outputs(case: Case, outputs: Sequence[torch.Tensor], tolerance: float) -> Result:
    max_abs = max_rel = 0.0
    for index, (output, expected) in enumerate(zip(outputs, case.expected, strict=True)):
        if output.shape != expected.shape or output.dtype != expected.dtype:
            message = (
                f"output {index} is {output.dtype} {list(output.shape)}, "
                f"expected {expected.dtype} {list(expected.shape)}"
            )
            return Result(case.shape, "wrong", None, None, message)
        if not bool(torch.isfinite(expected).all() and torch.isfinite(output).all()):
            message = f"output {index} is not finite, here or in the eager module"
            return Result(case.shape, "wrong", None, None, message)
        difference = float((output.double() - expected.double()).abs().max())
        scale = float(expected.double().abs().max())
        max_abs = max(max_abs, difference)
        max_rel = max(max_rel, difference / scale if scale else difference)
    if max_abs == 0:
        return Result(case.shape, "exact", 0.0, 0.0)
    if max_rel <= tolerance:
        return Result(case.shape, "close", max_abs, max_rel)
    message = f"differs by {max_rel:.2g} of the output's scale (allowed {tolerance:.0e})"
    return Result(case.shape, "wrong", max_abs, max_rel, message)
