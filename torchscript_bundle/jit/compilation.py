"""Compile a tree of modules, children first, each by its compile mode.

A scripted child keeps its control flow inside a traced parent, and a traced child may run any
Python inside a scripted parent. After e3nn/util/jit.py of https://github.com/e3nn/e3nn.
"""

from __future__ import annotations

import copy
import re
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


def compile(
    module: torch.nn.Module, *, in_place: bool = True, examples: int = 1
) -> torch.nn.Module:
    """Compile a module and its descendants that have a compile mode.

    The result is a ScriptModule if `module` is one, or has the mode "script" or "trace". After an
    error, which a module, the tracer or the compiler may also raise, `module` is as it was.

    Args:
        module: in the mode (training or eval) that is to be compiled.
        in_place: False replaces children in a copy, which shares parameters and buffers.
        examples: number of example inputs of each traced module; each must give the same graph.

    Raises:
        NotImplementedError: a module in the tree is "unsupported".
        ValueError: a module that is to be traced declares no inputs.
        torch.jit.TracingCheckError: the graph depends on the example.
    """
    return _compile_tree(module, _Call(get_compile_mode(module), examples), in_place)


def script(
    module: torch.nn.Module, *, in_place: bool = True, examples: int = 1
) -> torch.jit.ScriptModule:
    """Script a module whatever its own mode, and compile its descendants; see `compile`."""
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
    """Trace `forward` of a module whatever its own mode, and compile its descendants.

    Args:
        example_inputs: arguments of `forward`; None for those that the module declares.
        check_inputs: further arguments, which must give the same graph. Without any, torch does not
            trace a second time to compare; `verify` compares with the eager module instead.
        in_place: see `compile`, also for errors.
        strict: False lets `forward` return lists and dicts.
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
    """Trace several methods of a module, which share its weights; see `trace`."""
    given = None if inputs is None else [inputs, *check_inputs]
    traced = _compile_tree(module, _Call("trace", 1, given, strict), in_place)
    assert isinstance(traced, torch.jit.ScriptModule)
    return traced


@dataclass
class _Call:
    """One call: its options for the root, and what it has compiled.

    Attributes:
        compiled: by original module, so that a shared module stays shared.
        replaced: parent, name and original module, in the order of replacement.
    """

    mode: CompileMode | None
    examples: int
    inputs: list[MethodInputs] | None = None
    strict: bool = True
    compiled: dict[torch.nn.Module, torch.nn.Module] = field(default_factory=dict)
    replaced: list[tuple[torch.nn.Module, str, torch.nn.Module]] = field(default_factory=list)


def _compile_tree(root: torch.nn.Module, call: _Call, in_place: bool) -> torch.nn.Module:
    for path, module in root.named_modules():
        if get_compile_mode(module) == "unsupported":
            raise NotImplementedError(f"{_where(path, module)} does not support TorchScript")
    with accept_deprecation(), readable_names(root):
        others = (module for module in root.modules() if module is not root)
        if not in_place and any(map(_is_to_compile, others)):
            root = copy_sharing_tensors(root)
        try:
            _compile_children(root, "", call)
            return _compile_one(root, "", call.mode, call)
        except BaseException:
            for parent, name, child in reversed(call.replaced):
                setattr(parent, name, child)
            raise


def _is_to_compile(module: torch.nn.Module) -> bool:
    return get_compile_mode(module) is not None and not isinstance(module, torch.jit.ScriptModule)


def copy_sharing_tensors(root: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of the modules with the same tensors: a second copy may not fit in memory."""
    compiled = [each for each in root.modules() if isinstance(each, torch.jit.ScriptModule)]
    shared = [*root.parameters(), *root.buffers(), *compiled]
    return copy.deepcopy(root, {id(each): each for each in shared})


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
            # torch warns of the class's own metadata (pytorch/pytorch#89064).
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


@contextmanager
def readable_names(module: torch.nn.Module) -> Iterator[None]:
    """Rename Python modules such as `remote.3f2a`, which TorchScript's parser cannot read back.

    transformers names the module of a model's own code after a digest, and TorchScript saves that
    name with the class.
    """
    kinds = {type(each) for each in module.modules()}
    names = {kind: kind.__module__ for kind in kinds if re.search(r"(^|\.)\d", kind.__module__)}
    for kind, name in names.items():
        kind.__module__ = re.sub(r"(^|\.)(?=\d)", r"\1_", name)
    try:
        yield
    finally:
        for kind, name in names.items():
            kind.__module__ = name
