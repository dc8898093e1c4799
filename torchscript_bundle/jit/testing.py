"""An assertion for the tests of a module with a compile mode."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from torchscript_bundle.jit.compilation import compile
from torchscript_bundle.jit.examples import MethodInputs, declares_inputs, device_of, tracing_inputs
from torchscript_bundle.jit.modes import get_compile_mode
from torchscript_bundle.jit.structure import copy_tensors
from torchscript_bundle.jit.tracing import load, record_tracer_warnings, save
from torchscript_bundle.jit.types import DataclassAsTuple

#: The module is compiled with the first of its examples, and compared on the others.
COMPILED_WITH = 2
COMPARED_ON = 2


def assert_auto_jitable(
    module: torch.nn.Module, *, strict_shapes: bool = True, error_on_warnings: bool = True
) -> torch.jit.ScriptModule:
    """Compile a module by its mode, and compare with it before and after saving.

    Both get the same random numbers, so dropout is allowed. The module is not changed.

    Args:
        module: has a compile mode, and makes or declares examples that differ from each other. A
            "script" module without examples is only compiled, saved and loaded.
        strict_shapes: whether one feature less or more must be refused by both, or give the same
            output. Features are the last dimension of a floating tensor, if all examples agree.
        error_on_warnings: whether a tracer warning fails.
    """
    name, mode = type(module).__name__, get_compile_mode(module)
    if mode is None:
        raise AssertionError(f"{name} has no compile mode")
    compiled = _compile(module, error_on_warnings)
    examples: list[MethodInputs] = []
    if mode == "trace" or declares_inputs(module):
        examples = tracing_inputs(module, COMPILED_WITH + COMPARED_ON, name)
    fresh = examples[COMPILED_WITH:] or examples
    _assert_same_outputs(module, compiled, fresh, f"compiled {name}")
    with tempfile.TemporaryDirectory() as folder:
        save(compiled, Path(folder) / "module.pt")
        loaded = load(Path(folder) / "module.pt", device_of(module) or torch.device("cpu"))
    _assert_same_outputs(module, loaded, fresh, f"{name}, saved and loaded,")
    if strict_shapes and examples:
        _assert_same_on_other_features(module, compiled, examples)
    return compiled


def _compile(module: torch.nn.Module, error_on_warnings: bool) -> torch.jit.ScriptModule:
    record: AbstractContextManager[list[str]] = (
        record_tracer_warnings() if error_on_warnings else nullcontext([])
    )
    with record as warned:
        compiled = compile(module, in_place=False, examples=COMPILED_WITH)
    if warned:
        raise AssertionError("\n".join(["the tracer warned:", *warned]))
    assert isinstance(compiled, torch.jit.ScriptModule)
    return compiled


def _assert_same_outputs(
    module: torch.nn.Module,
    compiled: torch.jit.ScriptModule,
    examples: Sequence[MethodInputs],
    name: str,
) -> None:
    for method, arguments in (item for inputs in examples for item in inputs.items()):
        expected = _call(module, method, arguments)
        _assert_close(_call(compiled, method, arguments), expected, f"{name} differs in `{method}`")


def _assert_same_on_other_features(
    module: torch.nn.Module, compiled: torch.jit.ScriptModule, examples: Sequence[MethodInputs]
) -> None:
    for method, arguments in examples[0].items():
        for index, argument in enumerate(arguments):
            if not _has_features(argument, [inputs[method][index] for inputs in examples]):
                continue
            for other in (argument[..., :-1], torch.cat([argument, argument[..., :1]], -1)):
                changed = (*arguments[:index], other, *arguments[index + 1 :])
                where = (
                    f"a last dimension of {other.shape[-1]} where it is {argument.shape[-1]}, "
                    f"in argument {index} of `{method}`"
                )
                _assert_same_outcome(module, compiled, method, changed, where)


def _assert_same_outcome(
    module: torch.nn.Module,
    compiled: torch.jit.ScriptModule,
    method: str,
    arguments: tuple[Any, ...],
    where: str,
) -> None:
    name = type(module).__name__
    expected, answer = (_outcome(each, method, arguments) for each in (module, compiled))
    if isinstance(expected, Exception) and isinstance(answer, Exception):
        return
    if isinstance(expected, Exception):
        raise AssertionError(f"compiled {name} takes {where}; {name} refuses: {expected}")
    if isinstance(answer, Exception):
        raise AssertionError(f"compiled {name} refuses {where}; {name} takes it") from answer
    _assert_close(answer, expected, f"compiled {name} differs with {where}")


def _has_features(argument: object, alike: Sequence[Any]) -> bool:
    return (
        isinstance(argument, torch.Tensor)
        and argument.is_floating_point()
        and argument.dim() > 0
        and argument.shape[-1] > 0
        and all(other.shape[-1] == argument.shape[-1] for other in alike)
    )


def _assert_close(answer: Any, expected: Any, says: str) -> None:
    if isinstance(expected, DataclassAsTuple):
        expected = expected.astuple()
    try:
        torch.testing.assert_close(answer, expected)
    except AssertionError as error:
        raise AssertionError(f"{says}: {error}") from error


def _outcome(module: torch.nn.Module, method: str, arguments: tuple[Any, ...]) -> Any:
    """Return the output of a call, or the exception that it raises."""
    try:
        return _call(module, method, arguments)
    except Exception as error:  # torch has no one class for what its operators refuse
        return error


def _call(module: torch.nn.Module, method: str, arguments: tuple[Any, ...]) -> Any:
    """Call with a seed, on a copy of the arguments: a method may write into them."""
    # Hooks run only where the module itself is called.
    call = module if method == "forward" else getattr(module, method)
    device = device_of(module)
    devices = [device] if device is not None and device.type != "cpu" else []
    with torch.no_grad(), torch.random.fork_rng(devices):
        torch.manual_seed(0)
        return call(*copy_tensors(arguments))
