"""Functions that take the place of transformers' own, in one model and nowhere else."""

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
    """Compiles a function at its first call, so that an import stays quick.

    A trace that calls it keeps its loops and branches.

    Args:
        function: what TorchScript takes; it gets its arguments as they come.
    """

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
    """Has every `forward` of a model that calls the function `name` call another instead.

    The forward of each such module gets its own view of the Python file that it stands in, where
    `name` is the other function. File, class and all other models stay as they are.

    Args:
        name: a function in the file of the model's code, called there by that name.
        make: gives the other function from the one of that file.

    Returns:
        What changes a model in place. It raises LookupError if no forward calls the function.
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
    """The modules of a model that have an attribute.

    Raises:
        LookupError: none has.
    """
    found = [module for module in model.modules() if hasattr(module, attribute)]
    if not found:
        raise LookupError(
            f"no module of {type(model).__name__} has {attribute}: this version of transformers "
            "names it otherwise than the hint for it does"
        )
    return found


def with_globals(function: Callable[..., Any], **others: Any) -> Callable[..., Any]:
    """A copy of a plain function that finds `others` under the names of what its file defines."""
    plain: Any = function
    seen = {**plain.__globals__, **others}
    copied = FunctionType(
        plain.__code__, seen, plain.__name__, plain.__defaults__, plain.__closure__
    )
    copied.__kwdefaults__ = plain.__kwdefaults__
    return copied


def _rebind(module: Any, name: str, make: Callable[[Any], Any]) -> bool:
    """Changes one module, if its forward calls the function; returns whether it did."""
    forward = inspect.unwrap(type(module).forward)
    # A forward that is no plain function (a ScriptModule's) has no names to look through.
    if name not in getattr(getattr(forward, "__code__", None), "co_names", ()):
        return False
    changed = with_globals(forward, **{name: make(forward.__globals__[name])})
    # A bound method follows its module when that is copied; a closure would not.
    module.forward = MethodType(changed, module)
    return True
