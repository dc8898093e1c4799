"""Example inputs of a module: made by itself, or drawn in the shapes that it declares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch

from torchscript_bundle.jit.structure import map_leaves

#: The arguments of each method, as `torch.jit.trace_module` takes them.
MethodInputs = dict[str, tuple[Any, ...]]

_METHOD, _SPECS = "_make_tracing_inputs", "input_specs"

#: A size of 1 broadcasts, which hides a size that the trace keeps as a constant.
_SMALLEST = 2


@dataclass(frozen=True)
class TensorSpec:
    """One tensor argument of `forward`, in the tuple `input_specs` of a class or an instance.

    (On an instance, leave out the annotation in the class, which TorchScript would read.)

    Attributes:
        shape: numbers are fixed; a named size differs between examples.
        dtype: None for the module's floating dtype.
        high: upper end (exclusive) of integers, and only of these, which are drawn from 0.
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
        """Draw values: normal ones, or uniform integers and booleans.

        Args:
            sizes: by name.
            dtype: the default.
            generator: on the CPU.
        """
        shape = [size if isinstance(size, int) else sizes[size] for size in self.shape]
        dtype = self.dtype or dtype
        if self._is_integer or dtype == torch.bool:
            return torch.randint(self.high or 2, shape, generator=generator).to(dtype)
        random = torch.randn(shape, generator=generator, dtype=dtype.to_real())
        return random.to(dtype)


def tracing_inputs(module: torch.nn.Module, count: int, where: str) -> list[MethodInputs]:
    """Return examples of a module's inputs, on its device and in its dtype.

    They come from its method `_make_tracing_inputs(count)`, which may return another number of
    them, or else from its `input_specs`, with the same values at each call.

    Raises:
        ValueError: the module, which the message describes by `where`, has neither.
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
    """Return whether `tracing_inputs` can make examples for a module."""
    return any(getattr(module, name, None) is not None for name in (_METHOD, _SPECS))


def to_module(module: torch.nn.Module, inputs: MethodInputs) -> MethodInputs:
    """Move tensors to the device and dtype of a module's first (floating) parameter or buffer."""
    device, dtype = device_of(module), _floating_dtype(module)

    def move(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        return leaf.to(device=device, dtype=dtype if leaf.is_floating_point() else None)

    return map_leaves(inputs, move)


def _draw(
    module: torch.nn.Module, specs: Sequence[TensorSpec], index: int
) -> tuple[torch.Tensor, ...]:
    """Return one example, in which each name has another size, which no other example has."""
    names = dict.fromkeys(each for spec in specs for each in spec.shape if isinstance(each, str))
    sizes = {name: _SMALLEST + index + position for position, name in enumerate(names)}
    dtype = _floating_dtype(module) or torch.get_default_dtype()
    generator = torch.Generator().manual_seed(index)
    return tuple(spec.make(sizes, dtype, generator).to(device_of(module)) for spec in specs)


def device_of(module: torch.nn.Module) -> torch.device | None:
    """Return the device of a module's first parameter or buffer; None without any."""
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
