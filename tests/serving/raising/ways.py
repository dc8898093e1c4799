"""Every way in which a worker may run a module; each is given the only reference to it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from tests.serving.helpers import CPU
from torchscript_bundle.jit import tracing
from torchscript_bundle.serving.engine.autocast import HalfModule
from torchscript_bundle.serving.engine.comparison import GRAPH_ERRORS, NotPackedError
from torchscript_bundle.serving.engine.memory import release_memory
from torchscript_bundle.serving.engine.onednn import Packed, calibrate, pack, pack_int8
from torchscript_bundle.serving.engine.onednn.shared_weights import share
from torchscript_bundle.serving.engine.torchscript import freeze

Examples = Sequence[tuple[torch.Tensor, ...]]
#: What runs, given a module's file and arguments that it can run.
Way = Callable[[Path, Examples], Callable[..., Any]]


class Unable(Exception):
    """Why a module cannot be run in a way."""


def _load(path: Path) -> torch.jit.ScriptModule:
    module = tracing.load(path, CPU)
    module.eval()
    return module


def _plain(path: Path, _: Examples) -> Callable[..., Any]:
    return _load(path)


def _frozen(path: Path, examples: Examples) -> Callable[..., Any]:
    return freeze(_load(path), examples)


def _half(path: Path, examples: Examples) -> Callable[..., Any]:
    return HalfModule(_load(path), examples, torch.bfloat16, cast_weights=True)


def _done(packed: Packed) -> Packed:
    if packed.reason is not None:
        raise Unable(packed.reason)
    return packed


def _float32(path: Path, examples: Examples) -> Callable[..., Any]:
    return _done(pack(_load(path), examples))


def _bfloat16(path: Path, examples: Examples) -> Callable[..., Any]:
    return _done(pack(_load(path), examples, torch.bfloat16))


def _int8(path: Path, examples: Examples) -> Callable[..., Any]:
    module = _load(path)
    return _done(pack_int8(module, examples, calibrate(module, examples)))


def _joined(path: Path, examples: Examples) -> Callable[..., Any]:
    """The batch in a pass with another one, before it."""
    packed = _done(pack(_load(path), examples, counts=(2,)))
    if not packed.joined:
        raise Unable("its batches cannot share a pass")
    return lambda *arguments: packed.joined[2](*examples[0], *arguments)[1]


def _shared(path: Path, examples: Examples) -> Callable[..., Any]:
    packed = _done(pack(_load(path), examples))
    folder = path.with_suffix("")
    folder.mkdir(exist_ok=True)
    share(packed.methods.values(), folder)
    return packed


def _observed(path: Path, examples: Examples) -> Callable[..., Any]:
    """Calibration, whose samples may be anything as well."""
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
    "joined": _joined,
    "shared": _shared,
    "observed": _observed,
}
#: What such a way may raise: `guard` of a service makes an answer of any.
RAISED = (*GRAPH_ERRORS, TypeError, ValueError, IndexError, NotPackedError)


def make(way: str, path: Path, examples: Examples) -> Callable[..., Any]:
    """What runs a module, of which nothing else is left.

    Raises:
        Unable: it cannot be run so.
    """
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        run = WAYS[way](path, examples)
    release_memory()
    return run
