"""Find the strongest claim about a model's shapes that its trace keeps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from tqdm import tqdm

from torchscript_bundle.export.claims import CLAIMS, Claim
from torchscript_bundle.export.errors import ExportError, one_line
from torchscript_bundle.export.gradients import compare_gradients
from torchscript_bundle.export.hints import traceable
from torchscript_bundle.export.inputs import InputMaker
from torchscript_bundle.export.masks import masks_by_broadcasting
from torchscript_bundle.export.oracle import NOT_TOGETHER, covered, padding_effect, run_grid
from torchscript_bundle.jit import tracing
from torchscript_bundle.jit.buckets import dispatch_by_length
from torchscript_bundle.jit.compilation import trace
from torchscript_bundle.jit.tracing import Tensors, foreign_operators, record_tracer_warnings
from torchscript_bundle.jit.verify import (
    TOLERANCE,
    Case,
    Report,
    Shape,
    last_line,
    verify_cases,
)

logger = logging.getLogger(__name__)

UNTRACED = 'set "save_mode": "pretrained" (see docs/pretrained.md), or choose another model'

#: A module and the tracer's warnings.
Traced = tuple[torch.nn.Module, tuple[str, ...]]
#: Above this, padding changes answers by more than rounding.
PADDING_TOLERANCE = 1e-4


@dataclass
class Proof:
    """A module with the claim that was proven for it.

    Attributes:
        module: the ScriptModule; the eager module where nothing is traced.
        lengths: traced lengths, ascending; the last is max_length.
        cases: inputs and eager outputs that the claim covers.
        padding_effect: how much padding changes the eager outputs, relative to their scale.
        refused: stronger claims, with the first case that broke each.
        gradients: embeddings and eager gradients, where the module explains its answers.
        gradient_difference: largest difference of its gradients, relative to their scale.
        pairs: whether rows may hold two texts; such rows are then among the cases.
        pairs_refused: why not, where they were tried.
    """

    module: torch.nn.Module
    claim: Claim
    lengths: tuple[int, ...]
    cases: list[Case]
    report: Report
    padding_effect: float
    refused: list[tuple[Claim, str]] = field(default_factory=list)
    warnings: tuple[str, ...] = ()
    gradients: list[Case] = field(default_factory=list)
    gradient_difference: float | None = None
    pairs: bool = False
    pairs_refused: str = ""

    @property
    def min_length(self) -> int:
        """Shortest length that was compared."""
        return min(case.shape.length for case in self.cases)

    def in_words(self) -> str:
        """Describe what holds."""
        batch = "any batch" if self.claim.dynamic_batch else "batch 1"
        if self.claim.dynamic_length:
            return f"{batch}, any length from {self.min_length} to {self.lengths[-1]}"
        return f"{batch}, length {' or '.join(map(str, self.lengths))} only"

    def compare(self, module: Any, title: str) -> Report:
        """Compare another module on the same cases, showing progress under a title."""
        return compare_all(module, self.cases, title)

    def as_dict(self) -> dict[str, Any]:
        """Return the proof as `bundle.json` keeps it."""
        return {
            **self.report.as_dict(),
            "holds": self.in_words(),
            "tolerance": TOLERANCE,
            "padding_effect": self.padding_effect,
            "gradient_difference": self.gradient_difference,
            "refused_claims": {str(claim): reason for claim, reason in self.refused},
            "pairs_refused": self.pairs_refused,
            "tracer_warnings": list(self.warnings),
            "tracer_warnings_explained": (
                "each marks a value that the trace keeps as a constant; the cases below, run "
                "beside the eager model, show that it does no harm at the shapes claimed"
            )
            if self.warnings
            else "",
        }


def prove(
    model: torch.nn.Module,
    wrap: Callable[[torch.nn.Module], torch.nn.Module],
    make_inputs: InputMaker,
    lengths: tuple[int, ...],
    reference: Callable[[torch.nn.Module], torch.nn.Module] | None = None,
) -> Proof:
    """Trace and compare, from the strongest claim to the weakest.

    `wrap` makes the module to trace, from the inputs of `make_inputs` to a tuple of tensors, and
    `reference` the one to compare with, by default the same. Static lengths are traced at each of
    `lengths`, ascending to max_length. ExportError names the shape where the eager model failed or
    the last claim broke.
    """
    eager = (reference or wrap)(model).eval()
    tracer_sees = wrap(traceable(model)).eval()
    cases = run_grid(eager, make_inputs, lengths)
    effect = padding_effect(eager, make_inputs, lengths[-1])

    def make(claim: Claim, traced: tuple[int, ...]) -> Traced:
        return _trace(tracer_sees, make_inputs, claim, traced)

    return strongest(eager, cases, lengths, effect, make)


def strongest(
    eager: torch.nn.Module,
    cases: Sequence[Case],
    lengths: tuple[int, ...],
    effect: float,
    make: Callable[[Claim, tuple[int, ...]], Traced],
) -> Proof:
    """Return the proof of the strongest claim that a module keeps.

    `make` gives the module for a claim and the lengths that it is traced at; `effect` is that of
    padding. ExportError names the shape where the last claim broke.
    """
    refused: list[tuple[Claim, str]] = []
    for claim in CLAIMS:
        tried = covered(eager, cases, claim, lengths)
        apart = next((case.shape for case in tried if not case.expected), None)
        if apart is not None:
            refused.append((claim, f"{apart}: {NOT_TOGETHER}"))
            continue
        traced = lengths[-1:] if claim.dynamic_length else lengths
        try:
            module, warnings = make(claim, traced)
        except Exception as error:  # a model's own code runs here
            refused.append((claim, f"tracing failed: {last_line(error)}"))
            continue
        report = compare_all(module, tried, f"compare ({claim})")
        if report.broken is None:
            return Proof(module, claim, traced, tried, report, effect, refused, warnings)
        refused.append((claim, str(report.broken)))
    claim, reason = refused[-1]
    raise ExportError(
        f"the trace does not answer as the model does, even at {claim}: {reason}; "
        f"TorchScript cannot serve this model exactly: {UNTRACED}"
    )


def reads_padding(proof: Proof) -> bool:
    """Return whether padding would change answers; ExportError if traced lengths need padding."""
    if proof.padding_effect <= PADDING_TOLERANCE:
        return False
    changes = f"padding changes this model's answers by {proof.padding_effect:.2g} of their scale"
    if not proof.claim.dynamic_length:
        raise ExportError(
            f"{changes} in spite of the mask, and its trace holds at {proof.in_words()}, so that "
            f"texts of other lengths could not be answered as the model does; {UNTRACED}"
        )
    logger.warning("%s: texts will share a batch only with others of their length", changes)
    return True


def save_and_compare(proof: Proof, path: Path, device: torch.device) -> Proof:
    """Save the module, load it with torch alone, compare it, and return the proof of the file.

    OSError: there is no room for the file.
    """
    try:
        tracing.save(cast(torch.jit.ScriptModule, proof.module), path)
        reloaded = tracing.load(path, device)
    except RuntimeError as error:
        raise ExportError(
            f"the trace cannot be saved and loaded again ({one_line(error)}); {UNTRACED}"
        ) from error
    return compare_reloaded(proof, reloaded)


def compare_reloaded(proof: Proof, reloaded: torch.jit.ScriptModule) -> Proof:
    """Compare the module of a file with the proof's, and return the proof of the file."""
    foreign = foreign_operators(reloaded)
    if foreign:
        raise ExportError(
            f"the trace calls {', '.join(foreign)}, which torch alone does not have, so a worker "
            f"could not load it; choose another device to export on, {UNTRACED}"
        )
    report = proof.compare(reloaded, "compare the saved file")
    if report.broken is not None:
        raise ExportError(f"the saved file differs at {report.broken}")
    if proof.gradients:
        worst = compare_gradients(reloaded, proof.gradients).worst
        return replace(proof, report=report, gradient_difference=worst)
    return replace(proof, report=report)


def compare_all(module: Callable[..., Tensors], cases: Sequence[Case], title: str) -> Report:
    """Compare on each case up to the first that fails, showing progress."""
    shown = tqdm(cases, desc=f"      {title}", unit="shape", leave=False, disable=None)
    return verify_cases(module, shown, stop_early=True)


def _trace(
    module: torch.nn.Module,
    make_inputs: Callable[[Shape], Tensors],
    claim: Claim,
    lengths: tuple[int, ...],
) -> Traced:
    """Trace once, or once per length behind a dispatcher; return the tracer's warnings too.

    A dynamic batch is traced with two rows: a single row lets broadcasting hide a constant.
    """
    batch = 2 if claim.dynamic_batch else 1
    examples = [make_inputs(Shape(batch, length, padded=True)) for length in lengths]
    with record_tracer_warnings() as warnings, masks_by_broadcasting():
        # Not in place: the traced module may be the one to compare with.
        traces = [trace(module, example, in_place=False) for example in examples]
    if len(traces) == 1:
        return traces[0], tuple(warnings)
    return dispatch_by_length(traces, lengths, len(examples[0])), tuple(warnings)
