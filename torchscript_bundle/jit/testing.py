"""One assertion for the tests of a module that says how it is to be compiled."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from torchscript_bundle.jit.compilation import compile
from torchscript_bundle.jit.examples import MethodInputs, device_of, tracing_inputs
from torchscript_bundle.jit.tracing import load, record_tracer_warnings, save

#: The module is compiled with the first of its examples, and compared on the others.
COMPILED_WITH = 2
COMPARED_ON = 2


def assert_auto_jitable(
    module: torch.nn.Module, *, strict_shapes: bool = True, error_on_warnings: bool = True
) -> torch.jit.ScriptModule:
    """Compiles a module as it says and compares with it, before and after saving.

    Args:
        module: in eval mode, with a compile mode, and with `input_specs` or
            `_make_tracing_inputs`, whose examples differ from each other. It is not changed.
        strict_shapes: whether another feature dimension must be refused. That is the last dimension
            of a floating tensor, where all examples agree on it.
        error_on_warnings: whether a tracer warning fails; else it passes as a warning.

    Returns:
        The compiled module.

    Raises:
        AssertionError: what does not hold.
        Exception: as `compile` does; and what the module raises on its examples.
    """
    name = type(module).__name__
    examples = tracing_inputs(module, COMPILED_WITH + COMPARED_ON, name)
    compiled = _compile(module, error_on_warnings)
    fresh = examples[COMPILED_WITH:] or examples
    _assert_same_outputs(module, compiled, fresh, f"compiled {name}")
    with tempfile.TemporaryDirectory() as folder:
        save(compiled, Path(folder) / "module.pt")
        loaded = load(Path(folder) / "module.pt", device_of(module) or torch.device("cpu"))
    _assert_same_outputs(module, loaded, fresh, f"{name}, saved and loaded,")
    if strict_shapes:
        _assert_refuses_other_features(compiled, examples, name)
    return compiled


def _compile(module: torch.nn.Module, error_on_warnings: bool) -> torch.jit.ScriptModule:
    record: AbstractContextManager[list[str]] = (
        record_tracer_warnings() if error_on_warnings else nullcontext([])
    )
    with record as warned:
        compiled = compile(module, in_place=False, examples=COMPILED_WITH)
    if warned:
        raise AssertionError("\n".join(["the tracer warned:", *warned]))
    if not isinstance(compiled, torch.jit.ScriptModule):
        raise AssertionError(f"{type(module).__name__} has no compile mode")
    return compiled


def _assert_same_outputs(
    module: torch.nn.Module,
    compiled: torch.jit.ScriptModule,
    examples: Sequence[MethodInputs],
    name: str,
) -> None:
    for method, arguments in (item for inputs in examples for item in inputs.items()):
        expected = _call(module, method, arguments)
        try:
            torch.testing.assert_close(_call(compiled, method, arguments), expected)
        except AssertionError as error:
            raise AssertionError(f"{name} differs in `{method}`: {error}") from error


def _assert_refuses_other_features(
    compiled: torch.jit.ScriptModule, examples: Sequence[MethodInputs], name: str
) -> None:
    for method, arguments in examples[0].items():
        for index, argument in enumerate(arguments):
            if not _has_features(argument, [inputs[method][index] for inputs in examples]):
                continue
            *rows, size = argument.shape
            other = argument.new_ones(*rows, size + 1)
            try:
                _call(compiled, method, (*arguments[:index], other, *arguments[index + 1 :]))
            except Exception:  # torch has no one class for what its operators refuse
                continue
            raise AssertionError(
                f"compiled {name} takes a last dimension of {size + 1} where it is {size}, "
                f"in argument {index} of `{method}`"
            )


def _has_features(argument: object, alike: Sequence[Any]) -> bool:
    return (
        isinstance(argument, torch.Tensor)
        and argument.is_floating_point()
        and argument.dim() > 0
        and all(other.shape[-1] == argument.shape[-1] for other in alike)
    )


def _call(module: torch.nn.Module, method: str, arguments: tuple[Any, ...]) -> Any:
    """On a copy of the arguments, since a method may write into them."""
    # Hooks run only where the module itself is called.
    call = module if method == "forward" else getattr(module, method)
    with torch.no_grad():
        return call(*copy.deepcopy(arguments))
