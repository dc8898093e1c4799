"""A module whose forward takes the named arguments and no others."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import torch

NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class KeptArguments(torch.nn.Module):
    """Made by `keep_arguments`, which gives each choice of names a class with that `forward`.

    Attributes:
        module: what is called, by keyword.
    """

    module: torch.nn.Module

    def __init__(
        self, module: torch.nn.Module, fixed: Mapping[str, Any], outputs: Sequence[str]
    ) -> None:
        super().__init__()
        self.module = module
        self._fixed = dict(fixed)
        self._outputs = tuple(outputs)

    def _run(self, arguments: Mapping[str, Any]) -> Any:
        output = self.module(**arguments, **self._fixed)
        return tuple(_member(output, name) for name in self._outputs) if self._outputs else output


def keep_arguments(
    module: torch.nn.Module,
    names: Sequence[str],
    *,
    fixed: Mapping[str, Any] | None = None,
    outputs: Sequence[str] = (),
    unlisted: Sequence[str] = (),
) -> KeptArguments:
    """Wraps `module` so that its forward takes `names` only, by position and in that order.

    A trace takes its arguments by position, and `None` is no argument of a trace: what lies between
    two arguments that are given has to go from the signature. The trace's schema has these names.

    Args:
        module: any module whose forward takes `names` by keyword.
        names: arguments to keep. One that would only fall into `**kwargs` is refused, since few
            modules tell a misspelt one from one that they read; a forward of `**kwargs` alone is
            not checked.
        fixed: what to pass for other arguments at every call. A trace keeps it as a constant.
        outputs: members of what the module returns, to return as a tuple instead of the whole.
        unlisted: those of `names` that may fall into `**kwargs` after all.

    Raises:
        ValueError: the module does not take an argument, or needs one that is neither kept nor
            fixed; or one is given twice.

    Example:
        >>> lstm = keep_arguments(torch.nn.LSTM(3, 2), ["input"], fixed={"hx": None})
        >>> inspect.signature(lstm.forward)
        <Signature (input)>
    """
    fixed = fixed or {}
    _check(module, names, {*fixed, *unlisted}, [*names, *fixed])
    # A class of its own, because inspect and the tracer read the signature off the function.
    kind = type(KeptArguments.__name__, (KeptArguments,), {"forward": _forward(names)})
    wrapped: KeptArguments = kind(module, fixed, outputs)
    return wrapped


def _forward(names: Sequence[str]) -> Callable[..., Any]:
    """A method whose signature is `(self, *names)`."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature([inspect.Parameter(name, kind) for name in ("self", *names)])

    def forward(self: KeptArguments, *args: Any, **kwargs: Any) -> Any:
        arguments = signature.bind(self, *args, **kwargs).arguments
        return self._run({name: arguments[name] for name in names})

    forward.__dict__["__signature__"] = signature
    return forward


def _check(
    module: torch.nn.Module, names: Sequence[str], loose: Set[str], given: Sequence[str]
) -> None:
    """Refuses arguments that cannot be passed to `module` together; `loose` ones may be in kwargs.

    Raises:
        ValueError: see `keep_arguments`.
    """
    parameters = inspect.signature(module.forward).parameters.values()
    named = [each for each in parameters if each.kind in NAMED]
    takes = [each.name for each in named]
    needs = [each.name for each in named if each.default is each.empty]
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters):
        allowed = {*takes, *loose, *(() if takes else names)}
    else:
        allowed = set(takes)
    wrongs = {
        "does not take": [name for name in given if name not in allowed],
        "takes only once": sorted({name for name in given if given.count(name) > 1}),
        "cannot do without": [name for name in needs if name not in given],
    }
    for what, wrong in wrongs.items():
        if wrong:
            raise ValueError(
                f"{type(module).__name__} {what} {', '.join(wrong)}; "
                f"its arguments are {', '.join(takes)}"
            )


def _member(output: Any, name: str) -> Any:
    """One member of an output.

    Raises:
        ValueError: it has none of that name, or None there.
    """
    member = getattr(output, name, None)
    if member is None:
        raise ValueError(f"{type(output).__name__} has no {name}")
    return member
