"""The ways in which a worker may run a module; each gets the only reference to it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from tests.serving.helpers import CPU
from torchscript_bundle.jit import tracing
from torchscript_bundle.serving.engine.autocast import HalfModule
from torchscript_bundle.serving.engine.comparison import GRAPH_ERRORS, TOLERANCES, UnavailableError
from torchscript_bundle.serving.engine.memory import release_memory
from torchscript_bundle.serving.engine.onednn import Packed, calibrate, pack, pack_int8
from torchscript_bundle.serving.engine.onednn.shared_weights import share_weights
from torchscript_bundle.serving.engine.torchscript import freeze

Examples = Sequence[tuple[torch.Tensor, ...]]
#: A module's file and arguments that it can compute -> what runs it.
Way = Callable[[Path, Examples], Callable[..., Any]]


class Unable(Exception):
    """A module cannot be run in a way."""


def _load(path: Path) -> torch.jit.ScriptModule:
    module = tracing.load(path, CPU)
    module.eval()
    return module


def _plain(path: Path, _: Examples) -> Callable[..., Any]:
    return _load(path)


def _frozen(path: Path, examples: Examples) -> Callable[..., Any]:
    return freeze(_load(path), examples)


def _half(path: Path, examples: Examples) -> Callable[..., Any]:
    # How far bfloat16 is off is no question here: random weights may be off by half.
    with mock.patch.dict(TOLERANCES, {torch.bfloat16: math.inf}):
        return HalfModule(_load(path), examples, torch.bfloat16, cast_weights=True)


def _done(packed: Packed) -> Packed:
    if packed.reason is not None:
        raise Unable(packed.reason)
    return packed


def _float32(path: Path, examples: Examples) -> Callable[..., Any]:
    return _done(pack(_load(path), {"forward": examples}))


def _bfloat16(path: Path, examples: Examples) -> Callable[..., Any]:
    return _done(pack(_load(path), {"forward": examples}, torch.bfloat16))


def _int8(path: Path, examples: Examples) -> Callable[..., Any]:
    module = _load(path)
    return _done(pack_int8(module, examples, calibrate(module, examples)))


def _merged(path: Path, examples: Examples) -> Callable[..., Any]:
    """The batch merged with another one, before it."""
    packed = _done(pack(_load(path), {"forward": examples}, counts=(2,)))
    if not packed.joined:
        raise Unable("its batches cannot be merged")
    return lambda *arguments: packed.joined[2](*examples[0], *arguments)[1]


def _shared(path: Path, examples: Examples) -> Callable[..., Any]:
    packed = _done(pack(_load(path), {"forward": examples}))
    folder = path.with_suffix("")
    folder.mkdir(exist_ok=True)
    share_weights(packed.methods.values(), folder)
    return packed


def _observed(path: Path, examples: Examples) -> Callable[..., Any]:
    """Calibrate with the arguments, then run the module."""
    module = _load(path)

    def run(*arguments: torch.Tensor) -> Any:
        calibrate(module, [*examples, arguments])
        return module(*arguments)

    return run


WAYS: dict[str, Way] = {
    "plain": _plain,
    "frozen": _frozen,
    "half": _half,
    "float32": _float32,
    "bfloat16": _bfloat16,
    "int8": _int8,
    "merged": _merged,
    "shared": _shared,
    "observed": _observed,
}
#: Errors that a way may raise; a service answers each with a status.
RAISED = (*GRAPH_ERRORS, TypeError, ValueError, IndexError, UnavailableError)


def make(way: str, path: Path, examples: Examples) -> Callable[..., Any]:
    """Return what runs a module, once nothing else of the module is left.

    Raises:
        Unable: the module cannot be run in this way.
    """
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        run = WAYS[way](path, examples)
    release_memory()
    return run
