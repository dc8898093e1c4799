"""Compiles a tree of modules, each as its compile mode says, children first.

A scripted child keeps its control flow inside a traced parent, and a traced child may hold any
Python inside a scripted parent. After `e3nn/util/jit.py` of https://github.com/e3nn/e3nn.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.fx

from torchscript_bundle.jit.deprecation import accept_deprecation
from torchscript_bundle.jit.examples import MethodInputs, to_module, tracing_inputs
from torchscript_bundle.jit.gaps import bridged_gaps
from torchscript_bundle.jit.modes import CompileMode, get_compile_mode
from torchscript_bundle.jit.names import readable_names


def compile(
    module: torch.nn.Module, *, in_place: bool = True, examples: int = 1
) -> torch.nn.Module:
    """Compiles a module and all below it that have a compile mode; the others are left alone.

    Args:
        module: in the mode (training or eval) that is to be compiled.
        in_place: whether compiled children replace those of `module`. Else they replace those of a
            copy, made only if there is one to replace, that shares parameters and buffers.
        examples: example inputs of each traced module. Those after the first check that the graph
            stays the same.

    Returns:
        A ScriptModule if `module` has the mode "script" or "trace", or is one already.

    Raises:
        NotImplementedError: a module in the tree is "unsupported".
        ValueError: a module that is to be traced declares no inputs.
        torch.jit.TracingCheckError: the graph depends on the example.
        Exception: whatever a module, the tracer or the compiler raises. Whatever is raised,
            `module` is left as it was.
    """
    return _compile_tree(module, _Call(get_compile_mode(module), examples), in_place)


def script(
    module: torch.nn.Module, *, in_place: bool = True, examples: int = 1
) -> torch.jit.ScriptModule:
    """Scripts a module whose own mode may be another, and compiles those below as they say.

    Arguments and errors are those of `compile`.
    """
    scripted = _compile_tree(module, _Call("script", examples), in_place)
    assert isinstance(scripted, torch.jit.ScriptModule)
    return scripted


def trace(
    module: torch.nn.Module,
    example_inputs: tuple[Any, ...] | None = None,
    check_inputs: Sequence[tuple[Any, ...]] = (),
    *,
    in_place: bool = True,
    strict: bool = True,
) -> torch.jit.ScriptModule:
    """Traces `forward` of a module, and compiles those below as they say.

    Args:
        module: its own mode may be another.
        example_inputs: the arguments; None for what the module declares.
        check_inputs: more of them, that must give the same graph. Without any, torch's own check (a
            second trace compared with the first) is off: `verify` compares with the eager module
            at many shapes, which says more.
        in_place: as for `compile`.
        strict: False lets `forward` return lists and dicts.

    Raises:
        As `compile` does.
    """
    inputs = None if example_inputs is None else {"forward": example_inputs}
    checks = [{"forward": arguments} for arguments in check_inputs]
    return trace_module(module, inputs, checks, in_place=in_place, strict=strict)


def trace_module(
    module: torch.nn.Module,
    inputs: MethodInputs | None = None,
    check_inputs: Sequence[MethodInputs] = (),
    *,
    in_place: bool = True,
    strict: bool = True,
) -> torch.jit.ScriptModule:
    """Traces several methods of a module, which share its weights.

    Args:
        module: as for `trace`.
        inputs: each method's arguments; None for what the module declares.
        check_inputs: as for `trace`, with the same methods.
        in_place: as for `compile`.
        strict: False lets methods return lists and dicts.

    Raises:
        As `compile` does.
    """
    given = None if inputs is None else [inputs, *check_inputs]
    traced = _compile_tree(module, _Call("trace", 1, given, strict), in_place)
    assert isinstance(traced, torch.jit.ScriptModule)
    return traced


@dataclass
class _Call:
    """One call: what it says of the root, and what it has done so far.

    Attributes:
        mode: of the root, whatever the root says of itself.
        examples: for each module that declares its inputs.
        inputs: of the root, if the caller gave them.
        strict: of the root, if it is traced.
        compiled: what each module below became, so that a shared one stays shared.
        replaced: parent, name and module, in the order of replacement.
    """

    mode: CompileMode | None
    examples: int
    inputs: list[MethodInputs] | None = None
    strict: bool = True
    compiled: dict[torch.nn.Module, torch.nn.Module] = field(default_factory=dict)
    replaced: list[tuple[torch.nn.Module, str, torch.nn.Module]] = field(default_factory=list)


def _compile_tree(root: torch.nn.Module, call: _Call, in_place: bool) -> torch.nn.Module:
    _refuse_unsupported(root)
    with accept_deprecation(), readable_names(root):
        if not in_place and _has_children_to_compile(root):
            root = copy_sharing_tensors(root)
        with _put_back_on_error(call):
            _compile_children(root, "", call)
            return _compile_one(root, "", call.mode, call)


def _refuse_unsupported(root: torch.nn.Module) -> None:
    for path, module in root.named_modules():
        if get_compile_mode(module) == "unsupported":
            raise NotImplementedError(f"{_where(path, module)} does not support TorchScript")


def _has_children_to_compile(root: torch.nn.Module) -> bool:
    return any(
        get_compile_mode(module) is not None and not isinstance(module, torch.jit.ScriptModule)
        for module in root.modules()
        if module is not root
    )


def copy_sharing_tensors(root: torch.nn.Module) -> torch.nn.Module:
    """A copy of the modules only: a second set of a large model's weights may not fit."""
    compiled = [each for each in root.modules() if isinstance(each, torch.jit.ScriptModule)]
    shared = [*root.parameters(), *root.buffers(), *compiled]
    return copy.deepcopy(root, {id(each): each for each in shared})


@contextmanager
def _put_back_on_error(call: _Call) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for parent, name, child in reversed(call.replaced):
            setattr(parent, name, child)
        raise


def _compile_children(parent: torch.nn.Module, path: str, call: _Call) -> None:
    if isinstance(parent, torch.jit.ScriptModule):
        return
    # named_children() would leave out the second name of a child.
    for name, child in list(parent._modules.items()):
        if child is None:
            continue
        if child not in call.compiled:
            child_path = f"{path}.{name}" if path else name
            _compile_children(child, child_path, call)
            mode = get_compile_mode(child)
            call.compiled[child] = _compile_one(child, child_path, mode, call)
        if call.compiled[child] is not child:
            call.replaced.append((parent, name, child))
            setattr(parent, name, call.compiled[child])


def _compile_one(
    module: torch.nn.Module, path: str, mode: CompileMode | None, call: _Call
) -> torch.nn.Module:
    if mode is None or isinstance(module, torch.jit.ScriptModule):
        return module
    try:
        if mode == "script":
            return _script_one(module)
        return _trace_one(module, path, call)
    except Exception as error:
        error.add_note(f"in {_where(path, module)}, compile mode {mode!r}")
        raise


def _script_one(module: torch.nn.Module) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        if isinstance(module, torch.fx.GraphModule):
            # Of its own metadata, which no scripted module holds (pytorch/pytorch#89064).
            warnings.filterwarnings(
                "ignore", "The TorchScript type system doesn't support instance-level", UserWarning
            )
        scripted: torch.jit.ScriptModule = torch.jit.script(module)
    return scripted


def _trace_one(module: torch.nn.Module, path: str, call: _Call) -> torch.jit.ScriptModule:
    is_root = not path
    if is_root and call.inputs is not None:
        inputs = [to_module(module, each) for each in call.inputs]
    else:
        inputs = tracing_inputs(module, call.examples, _where(path, module))
    with torch.no_grad(), bridged_gaps():
        traced: torch.jit.ScriptModule = torch.jit.trace_module(
            module,
            inputs[0],
            check_trace=len(inputs) > 1,
            check_inputs=inputs[1:],
            strict=call.strict or not is_root,
        )
    return traced


def _where(path: str, module: torch.nn.Module) -> str:
    name = type(module).__name__
    return f"{path} ({name})" if path else name
