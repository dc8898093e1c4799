"""Gradients by the embeddings, beside the eager model's: what captum's answers are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tqdm import tqdm

from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.jit.tracing import Tensors
from torchscript_bundle.jit.verify import Case, Report, Shape, run_eager, verify_cases

#: Largest difference of a gradient, relative to its scale: sums over many paths round more.
TOLERANCE = 1e-4
#: Where on the way between nothing and the text the gradients are compared.
PLACES = (1.0, 0.4)
#: Rows of the cases compared: a gradient takes several times the memory of an answer.
MOST_ROWS = 2


def gradients(eager: Any, cases: Sequence[Case]) -> list[Case]:
    """The eager model's outputs and gradients, at several places on the way to each text.

    Args:
        eager: has `embed` and `forward_embeddings`.
        cases: texts of which those in small batches are taken.
    """
    grid: list[tuple[Shape, Tensors]] = []
    for case in cases:
        if case.shape.batch > MOST_ROWS or case.shape.spelled:
            continue
        embeddings = eager.embed(case.inputs[0]).detach()
        grid += [(case.shape, (place * embeddings, *case.inputs)) for place in PLACES]
    shown = tqdm(grid, desc="      eager gradients", unit="shape", leave=False, disable=None)
    return list(run_eager(_with_gradient(eager.forward_embeddings), shown))


def compare_gradients(module: Any, cases: Sequence[Case]) -> Report:
    """Puts outputs and gradients of `forward_embeddings` beside the eager model's.

    Raises:
        ExportError: they differ; the message names the shape.
    """
    shown = tqdm(cases, desc="      compare gradients", unit="shape", leave=False, disable=None)
    run = _with_gradient(module.forward_embeddings)
    report = verify_cases(run, shown, TOLERANCE, stop_early=True)
    if report.broken is not None:
        raise ExportError(
            f"the gradients are not the model's, at {report.broken}; set captum_explanation to "
            "false in setup_config.json, or choose another model"
        )
    return report


def _with_gradient(forward: Callable[..., Tensors]) -> Callable[..., Tensors]:
    """A function of the same arguments that also returns a gradient by the first, the embeddings.

    It is that of a weighted sum of all outputs. The weights differ, since equal ones would cancel
    out after a softmax or a norm.
    """

    def run(embeddings: torch.Tensor, *inputs: torch.Tensor) -> Tensors:
        with torch.enable_grad():
            leaf = embeddings.detach().requires_grad_()
            outputs = forward(leaf, *inputs)
            total = sum((output * _weights(output)).sum() for output in outputs)
            assert isinstance(total, torch.Tensor)
            (gradient,) = torch.autograd.grad(total, leaf)
        return (*(output.detach() for output in outputs), gradient)

    return run


def _weights(output: torch.Tensor) -> torch.Tensor:
    places = torch.arange(output.numel(), device=output.device, dtype=output.dtype)
    return torch.cos(places).view_as(output)
