"""The compile mode of a module, declared by its class or set on an instance, as in e3nn."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Literal, TypeVar, get_args

import torch
import torch.fx

CompileMode = Literal["script", "trace", "unsupported"]

Class = TypeVar("Class", bound=type[torch.nn.Module])

#: TorchScript does not save instance attributes that start with two underscores.
_ATTRIBUTE = "__torchscript_compile_mode__"


def compile_mode(mode: CompileMode | None) -> Callable[[Class], Class]:
    """Declare, as a class decorator, how `compile` treats a module class and its subclasses.

    Args:
        mode: "script" keeps control flow that depends on data; "trace" takes any Python and needs
            example inputs; "unsupported" refuses every model with such a module; None leaves the
            module to its parent.
    """
    _check(mode)

    def decorate(decorated: Class) -> Class:
        if not (inspect.isclass(decorated) and issubclass(decorated, torch.nn.Module)):
            raise TypeError(f"@compile_mode is for subclasses of torch.nn.Module, not {decorated}")
        setattr(decorated, _ATTRIBUTE, mode)
        return decorated

    return decorate


def set_compile_mode(module: torch.nn.Module, mode: CompileMode | None) -> None:
    """Set the mode of an instance, which overrides its class's."""
    _check(mode)
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"a compile mode is for an instance of torch.nn.Module, not {module}")
    setattr(module, _ATTRIBUTE, mode)


def get_compile_mode(module: torch.nn.Module) -> CompileMode | None:
    """Return the mode of an instance: its own, else its class's, else None.

    For a `torch.fx.GraphModule` the default is "script", as in e3nn: its code is generated.
    """
    default: CompileMode | None = "script" if isinstance(module, torch.fx.GraphModule) else None
    mode: CompileMode | None = getattr(module, _ATTRIBUTE, default)
    return mode


def _check(mode: object) -> None:
    if mode is not None and mode not in get_args(CompileMode):
        allowed = ", ".join(repr(each) for each in get_args(CompileMode))
        raise ValueError(f"no compile mode {mode!r}; there are {allowed} and None")
