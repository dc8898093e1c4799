"""Inputs to trace a module with: made by the module itself, or from the shapes that it declares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch

from torchscript_bundle.jit.structure import map_leaves

#: Arguments by method, as `torch.jit.trace_module` takes them.
MethodInputs = dict[str, tuple[Any, ...]]

_METHOD, _SPECS = "_make_tracing_inputs", "input_specs"

#: A size of 1 broadcasts, which hides a size that the trace keeps as a constant.
_SMALLEST = 2


@dataclass(frozen=True)
class TensorSpec:
    """One tensor argument of `forward`, as a module declares it in `input_specs`.

    That attribute is a tuple of these, one for each argument, on a class or an instance. On an
    instance it goes without an annotation in the class, which TorchScript would read.

    Attributes:
        shape: a name is a size that differs between examples and is the same wherever the name
            occurs in one example; a number is fixed.
        dtype: None for the module's floating dtype.
        high: integers are drawn from 0 up to here, exclusive.

    Raises:
        ValueError: integers without `high`, or `high` without integers.
    """

    shape: tuple[str | int, ...]
    dtype: torch.dtype | None = None
    high: int | None = None

    def __post_init__(self) -> None:
        if (self.high is not None) != self._is_integer:
            raise ValueError(f"high is for integers, which need it: {self}")

    @property
    def _is_integer(self) -> bool:
        dtype = self.dtype
        return dtype is not None and not (
            dtype.is_floating_point or dtype.is_complex or dtype == torch.bool
        )

    def make(
        self, sizes: dict[str, int], dtype: torch.dtype, generator: torch.Generator
    ) -> torch.Tensor:
        """Random values: normal, or uniform integers and booleans.

        Args:
            sizes: of each name in the shape.
            dtype: taken where the declaration leaves it open.
            generator: on the CPU, where the tensor is made.
        """
        shape = [size if isinstance(size, int) else sizes[size] for size in self.shape]
        dtype = self.dtype or dtype
        if self._is_integer or dtype == torch.bool:
            return torch.randint(self.high or 2, shape, generator=generator).to(dtype)
        random = torch.randn(shape, generator=generator, dtype=dtype.to_real())
        return random.to(dtype)


def tracing_inputs(module: torch.nn.Module, count: int, where: str) -> list[MethodInputs]:
    """Examples of a module's inputs, on its device and in its dtype.

    They come from its method `_make_tracing_inputs(count)`, else from its `input_specs`, with the
    same values at each call.

    Args:
        module: of any class.
        count: how many; `_make_tracing_inputs` may return another number of them.
        where: the module's place and class, for messages.

    Raises:
        ValueError: the module has neither.
        TypeError: `_make_tracing_inputs` returned something else.
    """
    make: Callable[[int], object] | None = getattr(module, _METHOD, None)
    if make is not None:
        return [to_module(module, inputs) for inputs in _check_form(make(count), where)]
    specs: Sequence[TensorSpec] | None = getattr(module, _SPECS, None)
    if specs is not None:
        return [{"forward": _draw(module, specs, index)} for index in range(count)]
    raise ValueError(
        f"{where} has no inputs to be traced with: give it `input_specs`, a tuple of TensorSpec, "
        "or a method `_make_tracing_inputs(n)` that returns n times {method: arguments}"
    )


def declares_inputs(module: torch.nn.Module) -> bool:
    """Return whether `tracing_inputs` has something to make a module's examples from."""
    return any(getattr(module, name, None) is not None for name in (_METHOD, _SPECS))


def to_module(module: torch.nn.Module, inputs: MethodInputs) -> MethodInputs:
    """Puts tensors on a module's device, and floating ones into its floating dtype as well.

    Device and dtype are those of its first (floating) parameter or buffer; a module without any
    takes inputs as they are.
    """
    device, dtype = device_of(module), _floating_dtype(module)

    def move(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        return leaf.to(device=device, dtype=dtype if leaf.is_floating_point() else None)

    return map_leaves(inputs, move)


def _draw(
    module: torch.nn.Module, specs: Sequence[TensorSpec], index: int
) -> tuple[torch.Tensor, ...]:
    """One example: its names have sizes that differ from each other, and between examples."""
    names = dict.fromkeys(
        size for spec in specs for size in spec.shape if not isinstance(size, int)
    )
    sizes = {name: _SMALLEST + index + position for position, name in enumerate(names)}
    dtype = _floating_dtype(module) or torch.get_default_dtype()
    generator = torch.Generator().manual_seed(index)
    return tuple(spec.make(sizes, dtype, generator).to(device_of(module)) for spec in specs)


def device_of(module: torch.nn.Module) -> torch.device | None:
    """Of its first parameter or buffer; None without any."""
    return next((tensor.device for tensor in chain(module.parameters(), module.buffers())), None)


def _floating_dtype(module: torch.nn.Module) -> torch.dtype | None:
    tensors = chain(module.parameters(), module.buffers())
    return next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), None)


def _check_form(made: object, where: str) -> list[MethodInputs]:
    if isinstance(made, list) and made and all(map(_is_method_inputs, made)):
        return made
    raise TypeError(
        f"`_make_tracing_inputs` of {where} must return a list, not empty, of "
        f"{{method: tuple of arguments}}, not {made!r}"
    )


def _is_method_inputs(inputs: object) -> bool:
    return isinstance(inputs, dict) and all(
        isinstance(name, str) and isinstance(arguments, tuple) for name, arguments in inputs.items()
    )
