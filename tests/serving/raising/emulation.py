"""Run int8 and bfloat16 graphs on CPUs that have no instructions for them.

Operators then lose precision or are slow, which does not matter to tests of errors: the graph, its
call stacks and the interpreter are those of a worker.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import torch
from torch import Tensor

from torchscript_bundle.serving.artifact import INT8, PRECISIONS
from torchscript_bundle.serving.engine.comparison import TOLERANCES

FUNCTIONS = {
    "none": lambda x: x,
    "gelu": torch.nn.functional.gelu,
    "relu": torch.relu,
    "swish": torch.nn.functional.silu,
    "tanh": torch.tanh,
}


@contextmanager
def every_precision() -> Iterator[None]:
    """Make packing believe that the CPU has all instructions; compute what oneDNN refuses."""
    operators = torch.ops.mkldnn
    has_bfloat16 = operators._is_mkldnn_bf16_supported()
    library = torch.library.Library("mkldnn", "IMPL")
    with (
        mock.patch.object(torch.cpu, "_is_vnni_supported", lambda: True),
        mock.patch.dict(PRECISIONS, {INT8: replace(PRECISIONS[INT8], tolerance=math.inf)}),
        mock.patch.dict(TOLERANCES, {torch.bfloat16: math.inf}),
        mock.patch.object(operators, "_is_mkldnn_bf16_supported", lambda: True),
    ):
        try:
            if not has_bfloat16:
                _replace(library)
            yield
        finally:
            library._destroy()


def _replace(library: torch.library.Library) -> None:
    library.impl("_reorder_linear_weight", _keep, "CPU", allow_override=True)
    library.impl("_linear_pointwise", _unary, "CPU", allow_override=True)
    library.impl("_linear_pointwise.binary", _binary, "CPU", allow_override=True)


def _keep(weight: Tensor, batch_size: int | None = None) -> Tensor:
    return weight.clone()


def _unary(
    x: Tensor, weight: Tensor, bias: Tensor | None, attr: str, scalars: object, form: str | None
) -> Tensor:
    function = FUNCTIONS[attr]
    return function(_linear(x, weight, bias)).to(x.dtype)


def _binary(x: Tensor, other: Tensor, weight: Tensor, bias: Tensor | None, attr: str) -> Tensor:
    product = _linear(x, weight, bias)
    return (product + other if attr == "add" else product * other).to(x.dtype)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.nn.functional.linear(
        x.float(), weight.float(), None if bias is None else bias.float()
    )
