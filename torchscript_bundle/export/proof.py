"""The strongest claim about a model's shapes that holds: traced, compared, and written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from tqdm import tqdm

from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.inputs import InputMaker
from torchscript_bundle.jit.buckets import dispatch_by_length
from torchscript_bundle.jit.tracing import Tensors, trace
from torchscript_bundle.jit.verify import Case, Result, Shape, compare, last_line, run_eager

BATCHES = (1, 2, 5, 8)
ROWS = 5
LENGTHS = (8, 16, 33)
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Claim:
    """Which shapes a module takes.

    Attributes:
        dynamic_batch: any number of rows; else exactly one.
        dynamic_length: any length up to max_length; else only traced lengths.
    """

    dynamic_batch: bool
    dynamic_length: bool

    def __str__(self) -> str:
        batch = "any batch" if self.dynamic_batch else "batch 1"
        return f"{batch}, {'any length' if self.dynamic_length else 'traced lengths only'}"


#: Strongest first. What is static is padded to the traced length, or run row by row, when serving.
CLAIMS = (Claim(True, True), Claim(True, False), Claim(False, True), Claim(False, False))


@dataclass
class Proof:
    """A module with the claim that was proven for it.

    Attributes:
        module: the ScriptModule.
        claim: what it takes.
        lengths: lengths that were traced, ascending; the last is max_length.
        cases: the inputs and eager answers that the claim covers, for further checks.
        results: how the module did on `cases`.
        refused: stronger claims, with the first case that broke each.
        warnings: what the tracer warned of.
    """

    module: torch.jit.ScriptModule
    claim: Claim
    lengths: tuple[int, ...]
    cases: list[Case]
    results: list[Result]
    refused: list[tuple[Claim, str]] = field(default_factory=list)
    warnings: tuple[str, ...] = ()

    @property
    def min_length(self) -> int:
        """Shortest length that was compared."""
        return min(case.shape.length for case in self.cases)

    @property
    def worst(self) -> float:
        """Largest difference, relative to the output's scale."""
        return max(result.max_rel or 0.0 for result in self.results)

    def in_words(self) -> str:
        """What holds, for people."""
        batch = "any batch" if self.claim.dynamic_batch else "batch 1"
        if self.claim.dynamic_length:
            return f"{batch}, any length from {self.min_length} to {self.lengths[-1]}"
        return f"{batch}, length {' or '.join(map(str, self.lengths))} only"

    def report(self) -> dict[str, Any]:
        """The proof as `bundle.json` keeps it."""
        return {
            "holds": self.in_words(),
            "tolerance": TOLERANCE,
            "worst_relative_difference": self.worst,
            "refused_claims": {str(claim): reason for claim, reason in self.refused},
            "tracer_warnings": list(self.warnings),
            "tracer_warnings_explained": (
                "each marks a value that the trace keeps as a constant; the cases below, run "
                "beside the eager model, show that it does no harm at the shapes claimed"
            )
            if self.warnings
            else "",
            "cases": [asdict(result) for result in self.results],
        }


def grid(max_length: int, traced_lengths: Sequence[int], shortest: int) -> list[Shape]:
    """Every shape that a claim may be tried on, cheapest first.

    Args:
        max_length: longest row.
        traced_lengths: lengths that the config asks for.
        shortest: tokens of the shortest text; tried unpadded if it is below the other lengths.
    """
    lengths = {length for length in LENGTHS if length <= max_length}
    lengths |= {max(4, max_length // 2), max_length, *traced_lengths}
    shapes = [Shape(batch, shortest, False) for batch in BATCHES if shortest < min(lengths)]
    for length in sorted(lengths):
        shapes += [Shape(batch, length, padded) for batch in BATCHES for padded in (False, True)]
        shapes += [Shape(batch, length, True, spelled=True) for batch in (1, 2)]
    return shapes


def prove(eager: torch.nn.Module, make_inputs: InputMaker, lengths: tuple[int, ...]) -> Proof:
    """Traces and compares, from the strongest claim to the weakest.

    Args:
        eager: the wrapped model, in eval mode.
        make_inputs: gives its arguments at a shape.
        lengths: lengths to trace where they are static, ascending; the last is max_length.

    Raises:
        ExportError: the eager model fails at a shape, or no claim holds; the message names the
            shape that broke the last one.
    """
    cases = _run_grid(eager, make_inputs, lengths)
    refused: list[tuple[Claim, str]] = []
    for claim in CLAIMS:
        covered = _covered(eager, cases, claim, lengths)
        apart = next((case.shape for case in covered if not case.expected), None)
        if apart is not None:
            refused.append((claim, f"{apart}: the model itself cannot run such rows together"))
            continue
        traced = lengths[-1:] if claim.dynamic_length else lengths
        try:
            module, warnings = _trace(eager, make_inputs, claim, traced)
        except Exception as error:  # a model's own code runs here
            refused.append((claim, f"tracing failed: {last_line(error)}"))
            continue
        results, broken = compare_all(module, covered, f"compare ({claim})")
        if broken is None:
            return Proof(module, claim, traced, covered, results, refused, warnings)
        refused.append((claim, f"{broken.shape}: {broken.verdict}, {broken.message}"))
    claim, reason = refused[-1]
    raise ExportError(
        f"the trace does not answer as the model does, even at {claim}: {reason}; "
        "TorchScript cannot serve this model exactly, choose another"
    )


def padding_effect(eager: torch.nn.Module, make_inputs: InputMaker, max_length: int) -> float:
    """How much padding changes the eager model's own answer, relative to the answer's scale.

    Rounding gives about 1e-6. More means that the architecture reads padding in spite of the mask,
    so that no padded batch can answer as a text alone does.
    """
    inputs = make_inputs(Shape(5, max(4, max_length // 2), padded=False))
    with torch.no_grad():
        case = Case(Shape(5, max_length, padded=True), inputs, eager(*inputs))
        padded = make_inputs.pad(inputs, max_length)
        result = compare(lambda *_: eager(*padded), case, TOLERANCE)
    return 1.0 if result.max_rel is None else result.max_rel


def compare_all(
    module: Callable[..., Tensors], cases: Sequence[Case], title: str
) -> tuple[list[Result], Result | None]:
    """Compares on each case, up to the first that fails; returns the results and that one."""
    results: list[Result] = []
    for case in tqdm(cases, desc=f"      {title}", unit="shape", leave=False, disable=None):
        results.append(compare(module, case, TOLERANCE))
        if not results[-1].holds:
            return results, results[-1]
    return results, None


def _run_grid(
    eager: torch.nn.Module, make_inputs: InputMaker, lengths: tuple[int, ...]
) -> list[Case]:
    """The eager model's answers.

    It must take every ordinary shape. Where it cannot take the shortest text, that shape is left
    out; where it cannot take rows with special tokens in the text together (BART wants as many ends
    of sentence in each), the case has no expected answer.
    """
    cases: list[Case] = []
    shapes = grid(lengths[-1], lengths, make_inputs.shortest)
    for shape in tqdm(shapes, desc="      eager model", unit="shape", leave=False, disable=None):
        try:
            cases += run_eager(eager, [shape], make_inputs)
        except Exception as error:  # a model's own code runs here
            if shape.spelled and shape.batch > 1:
                cases.append(Case(shape, make_inputs(shape), ()))
            elif not shape.spelled and shape.length != make_inputs.shortest:
                raise ExportError(
                    f"the model itself fails at {shape}: {last_line(error)}; "
                    "another max_length may help"
                ) from error
    return cases


def _covered(
    eager: torch.nn.Module, cases: Sequence[Case], claim: Claim, lengths: tuple[int, ...]
) -> list[Case]:
    """The cases that a claim is tried on.

    A claim of one row has few of its own, so it gets the rows of larger batches as well: a trace
    that baked in a choice made by a text's content must meet other texts.
    """
    covered = [case for case in cases if _covers(claim, case.shape, lengths)]
    if claim.dynamic_batch:
        return covered
    for case in cases:
        single = replace(case.shape, batch=1)
        if case.shape.batch == ROWS and _covers(claim, single, lengths):
            rows = zip(*(tensor.split(1) for tensor in case.inputs), strict=True)
            with torch.no_grad():
                covered += [Case(single, row, eager(*row)) for row in rows]
    return covered


def _covers(claim: Claim, shape: Shape, lengths: tuple[int, ...]) -> bool:
    return (claim.dynamic_batch or shape.batch == 1) and (
        claim.dynamic_length or shape.length in lengths
    )


def _trace(
    eager: torch.nn.Module,
    make_inputs: Callable[[Shape], Tensors],
    claim: Claim,
    lengths: tuple[int, ...],
) -> tuple[torch.jit.ScriptModule, tuple[str, ...]]:
    """One trace, or one for each length behind a dispatcher.

    A dynamic batch is traced with two rows, since a single row lets broadcasting hide a constant.
    """
    batch = 2 if claim.dynamic_batch else 1
    examples = [make_inputs(Shape(batch, length, padded=True)) for length in lengths]
    traces = [trace(eager, example) for example in examples]
    warnings = tuple(dict.fromkeys(line for traced in traces for line in traced.warnings))
    if len(traces) == 1:
        return traces[0].module, warnings
    modules = [traced.module for traced in traces]
    return dispatch_by_length(modules, lengths, len(examples[0])), warnings
