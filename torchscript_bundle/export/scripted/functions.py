"""Replace functions of transformers in one model and nowhere else."""

import functools
import inspect
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any, ParamSpec, TypeVar

import torch

from torchscript_bundle.jit.deprecation import accept_deprecation

P = ParamSpec("P")
R = TypeVar("R")


def scripted(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function at its first call, for quick imports; a trace keeps its control flow."""

    @functools.cache
    def compiled() -> Callable[P, R]:
        with accept_deprecation():
            result: Callable[P, R] = torch.jit.script(function)
        return result

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return compiled()(*args, **kwargs)

    return call


def replace_function(name: str, make: Callable[[Any], Any]) -> Callable[[torch.nn.Module], None]:
    """Return an adapter that makes every `forward` of a model call another function than `name`.

    Each such forward is rebuilt with other globals; the model's file, its classes and other models
    are left alone. `make` returns the other function, given the original. The adapter changes a
    model in place, and raises LookupError if no forward calls the function.
    """

    def adapt(model: torch.nn.Module) -> None:
        changed = [module for module in model.modules() if _rebind(module, name, make)]
        if not changed:
            raise LookupError(
                f"no module of {type(model).__name__} calls {name}: this version of transformers "
                "names it otherwise than the hint for it does"
            )

    return adapt


def modules_with(model: torch.nn.Module, attribute: str) -> list[Any]:
    """Return the modules of a model that have an attribute; LookupError if none has."""
    found = [module for module in model.modules() if hasattr(module, attribute)]
    if not found:
        raise LookupError(
            f"no module of {type(model).__name__} has {attribute}: this version of transformers "
            "names it otherwise than the hint for it does"
        )
    return found


def with_globals(function: Callable[..., Any], **others: Any) -> Callable[..., Any]:
    """Copy a plain function; in the copy, `others` replace globals of its file."""
    plain: Any = function
    seen = {**plain.__globals__, **others}
    copied = FunctionType(
        plain.__code__, seen, plain.__name__, plain.__defaults__, plain.__closure__
    )
    copied.__kwdefaults__ = plain.__kwdefaults__
    return copied


def _rebind(module: Any, name: str, make: Callable[[Any], Any]) -> bool:
    """Change one module if its forward calls the function; return whether it does."""
    forward = inspect.unwrap(type(module).forward)
    # A forward that is no plain function, such as a ScriptModule's, has no co_names.
    if name not in getattr(getattr(forward, "__code__", None), "co_names", ()):
        return False
    changed = with_globals(forward, **{name: make(forward.__globals__[name])})
    # A bound method follows its module when that is copied; a closure would not.
    module.forward = MethodType(changed, module)
    return True
