"""Wrap a module so that its forward takes the named arguments and no others."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import torch

NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class KeptArguments(torch.nn.Module):
    """Base of the wrappers that `keep_arguments` makes; it calls `module` by keyword."""

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
    """Wrap a module so that its forward takes `names` only, by position and in that order.

    A trace takes its arguments by position and none of them may be `None`, so unused arguments
    between the given ones have to leave the signature. The schema of the trace has these names.

    Args:
        module: takes `names` by keyword.
        names: arguments to keep. One that only `**kwargs` takes may be misspelt and is refused,
            unless `unlisted` has it or forward has `**kwargs` alone.
        fixed: values of other arguments, which a trace keeps as constants.
        outputs: members of the output to return as a tuple, instead of the whole.
        unlisted: see `names`.

    Example:
        >>> lstm = keep_arguments(torch.nn.LSTM(3, 2), ["input"], fixed={"hx": None})
        >>> inspect.signature(lstm.forward)
        <Signature (input)>
    """
    fixed = fixed or {}
    _check(module, names, {*fixed, *unlisted}, [*names, *fixed])
    # inspect and the tracer read the signature of the class's function.
    kind = type(KeptArguments.__name__, (KeptArguments,), {"forward": _forward(names)})
    wrapped: KeptArguments = kind(module, fixed, outputs)
    return wrapped


def _forward(names: Sequence[str]) -> Callable[..., Any]:
    """Return a method with the signature `(self, *names)`."""
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
    """Raise ValueError if `module` cannot be called with `given`; `**kwargs` may take `loose`."""
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
    member = getattr(output, name, None)
    if member is None:
        raise ValueError(f"{type(output).__name__} has no {name}")
    return member
