"""Work around operations that the tracer of torch 2.13 cannot record."""

from __future__ import annotations

import builtins
import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.autograd.function import Function, FunctionCtx


@contextmanager
def bridged_gaps() -> Iterator[None]:
    """Let the tracer record three operations that break it. Use under `torch.no_grad()`.

    - An `autograd.Function`: the tracer would record a call into Python, which cannot be saved, or
      raise `unordered_map::at`. Without gradients it equals its `forward`, which is run instead.
      (An `apply` that was kept in a variable beforehand is not replaced.)
    - `tensor.scatter(dim, index, False)`: the tracer finds no operator with a bool as its scalar
      and raises `aten::scatter.value_reduce_out(...)`. An int means the same.
    - `min(size, 2048)` and `max`: Python compares, and the trace would keep the result of the
      example. A size is a tensor while tracing, so `clamp` can record the comparison.

    These are patches instead of a TorchFunctionMode, which the tracer would name as the place of
    all its warnings.
    """
    with ExitStack() as stack:
        stack.enter_context(patch.object(Function, "apply", classmethod(_forward)))
        for owner in (torch.Tensor, torch):
            scatter = _with_int_scalars(owner.scatter)
            stack.enter_context(patch.object(owner, "scatter", scatter))
        stack.enter_context(patch.object(builtins, "min", _of_sizes(min, torch.clamp_max)))
        stack.enter_context(patch.object(builtins, "max", _of_sizes(max, torch.clamp_min)))
        yield


def _forward(function: type[Function], *args: Any, **kwargs: Any) -> Any:
    if function.setup_context is not Function.setup_context:
        return function.forward(*args, **kwargs)
    context: Any = FunctionCtx()
    context.needs_input_grad = (False,) * len(args)
    return function.forward(context, *args, **kwargs)


def _with_int_scalars(scatter: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def call(*args: Any, **kwargs: Any) -> torch.Tensor:
        plain = [int(each) if isinstance(each, bool) else each for each in args]
        named = {k: int(v) if isinstance(v, bool) else v for k, v in kwargs.items()}
        return scatter(*plain, **named)

    return call


def _of_sizes(
    choose: Callable[..., Any], clamp: Callable[[torch.Tensor, Any], torch.Tensor]
) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        sizes = [each for each in args if isinstance(each, torch.Tensor)]
        numbers = [each for each in args if type(each) is int]
        known = len(sizes) + len(numbers) == len(args) > 1 and not kwargs
        if not known or not sizes or any(each.dim() or each.is_floating_point() for each in sizes):
            return choose(*args, **kwargs)
        values: list[Any] = [*sizes, *numbers]
        return functools.reduce(clamp, values)

    return call
