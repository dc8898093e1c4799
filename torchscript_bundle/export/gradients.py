"""Gradients with respect to the embeddings, compared with the eager model's, for captum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tqdm import tqdm

from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.jit.tracing import Tensors
from torchscript_bundle.jit.verify import Case, Report, Shape, run_eager, verify_cases
from torchscript_bundle.serving.artifact import TOKEN_LAYER, Layer

#: Largest difference of a gradient, relative to its scale; long sums round more than outputs do.
TOLERANCE = 1e-4
#: Multiples of the text's embeddings at which gradients are compared.
SCALES = (1.0, 0.4)
#: Most rows of a case: a gradient takes several times the memory of a forward pass.
MOST_ROWS = 2


def gradients(eager: Any, cases: Sequence[Case], layer: Layer = TOKEN_LAYER) -> list[Case]:
    """Return cases of a layer's `forward` in small batches, with eager outputs and gradients."""
    grid: list[tuple[Shape, Tensors]] = []
    for case in cases:
        if case.shape.batch > MOST_ROWS or case.shape.spelled:
            continue
        embeddings = layer.run(eager, case.inputs, ids=0).detach()
        grid += [(case.shape, (scale * embeddings, *case.inputs)) for scale in SCALES]
    shown = tqdm(grid, desc="      eager gradients", unit="shape", leave=False, disable=None)
    return list(run_eager(_with_gradient(getattr(eager, layer.forward)), shown))


def compare_gradients(module: Any, cases: Sequence[Case], layer: Layer = TOKEN_LAYER) -> Report:
    """Compare a layer's `forward` with eager outputs and gradients; an error names the shape."""
    shown = tqdm(cases, desc="      compare gradients", unit="shape", leave=False, disable=None)
    run = _with_gradient(getattr(module, layer.forward))
    report = verify_cases(run, shown, TOLERANCE, stop_early=True)
    if report.broken is not None:
        raise ExportError(
            f"the gradients are not the model's, at {report.broken}; set captum_explanation to "
            "false in setup_config.json, or choose another model"
        )
    return report


def _with_gradient(forward: Callable[..., Tensors]) -> Callable[..., Tensors]:
    """Return a function that also gives the gradient of a weighted sum of the outputs.

    The gradient is with respect to the first argument, the embeddings. With equal weights the sum
    after a softmax or a norm would be constant.
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
    indices = torch.arange(output.numel(), device=output.device, dtype=output.dtype)
    return torch.cos(indices).view_as(output)
