"""What a loaded module runs in on this machine: the artifact's precision, or float32.

Every artifact was proven in float32. A worker that cannot do its lower precision is only slower,
and says so; in another one than was tried at export it could be wrong in silence.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from torchscript_bundle.serving.artifact import (
    CALIBRATION_FILE,
    FLOAT32,
    INT8,
    REMAKE,
    read_json_object,
)
from torchscript_bundle.serving.engine.autocast import HalfModule, NotHalvedError
from torchscript_bundle.serving.engine.comparison import GRAPH_ERRORS
from torchscript_bundle.serving.engine.onednn import (
    Arguments,
    Calibration,
    Packed,
    pack,
    pack_int8,
)
from torchscript_bundle.serving.errors import ArtifactError, last_line

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Running:
    """What runs rows.

    Attributes:
        forward: takes and returns what the module does.
        precision: what it computes in.
        reason: why that is not the artifact's; None if it is.
    """

    forward: Callable[..., tuple[torch.Tensor, ...]]
    precision: str = FLOAT32
    reason: str | None = None


@dataclass(frozen=True)
class Start:
    """What there is to make a `Running` of.

    Attributes:
        folder: the artifact's.
        module: as saved, on its device.
        examples: arguments to compare outputs on, with padding and without.
        explained: whether the module is needed whole besides.
        counts: how many batches of texts shall be able to share a pass.
    """

    folder: Path
    module: torch.jit.ScriptModule
    examples: Sequence[Arguments] = field(repr=False)
    explained: bool = False
    counts: Sequence[int] = ()


class _UnableError(Exception):
    """Why a precision cannot be had here."""


def read_calibration(folder: Path) -> Calibration:
    """The ranges that int8 numbers of an artifact stand for.

    Raises:
        ArtifactError: there are none.
    """
    try:
        return Calibration.from_dict(read_json_object(folder / CALIBRATION_FILE))
    except ValueError as error:
        raise ArtifactError(f"{folder / CALIBRATION_FILE}: {error}; {REMAKE}") from error


def _packed(packed: Packed, precision: str) -> Running:
    if packed.reason is not None:
        raise _UnableError(packed.reason)
    return Running(packed, precision)


def _pack_bfloat16(start: Start) -> Running:
    packed = pack(start.module, start.examples, torch.bfloat16, start.counts)
    return _packed(packed, "bfloat16")


def _pack_int8(start: Start) -> Running:
    calibration = read_calibration(start.folder)
    return _packed(pack_int8(start.module, start.examples, calibration, start.counts), INT8)


def _halve(start: Start, dtype: torch.dtype, precision: str) -> Running:
    try:
        half = HalfModule(start.module, start.examples, dtype, narrow_weights=not start.explained)
    except (NotHalvedError, *GRAPH_ERRORS) as error:
        raise _UnableError(last_line(error)) from error
    return Running(half, precision)


#: Kind of device -> precision -> what makes a module run in it there.
WAYS: dict[str, dict[str, Callable[[Start], Running]]] = {
    "cpu": {"bfloat16": _pack_bfloat16, INT8: _pack_int8},
    "cuda": {
        "bfloat16": lambda start: _halve(start, torch.bfloat16, "bfloat16"),
        "float16": lambda start: _halve(start, torch.float16, "float16"),
    },
}


@torch.no_grad()
def make_running(start: Start, precision: str, device: torch.device) -> Running:
    """Makes a module run in a precision; in float32, with a warning, where that cannot be done.

    Args:
        start: the module and what to compare it on.
        precision: the artifact's.
        device: where the module is.

    Raises:
        ArtifactError: the artifact lacks what its precision needs on any machine.
    """
    if precision == FLOAT32:
        return _in_float32(start, device, None)
    way = WAYS[device.type].get(precision)
    try:
        if way is None:
            raise _UnableError(f"there is no {precision} on a {device.type} device")
        return way(start)
    except _UnableError as error:
        reason = str(error)
    warn_of_float32(precision, reason)
    return _in_float32(start, device, reason)


def warn_of_float32(precision: str, reason: str) -> None:
    """Logs why a model does not run in the artifact's precision."""
    logger.warning(
        "the archive asks for %s, which cannot be had here: it runs in float32, slower: %s",
        precision,
        reason,
    )


def _in_float32(start: Start, device: torch.device, reason: str | None) -> Running:
    """On packed weights, where there are such."""
    if device.type != "cpu":
        return Running(start.module, reason=reason)
    packed = pack(start.module, start.examples, counts=start.counts)
    if packed.reason is not None:
        return Running(start.module, reason=reason)
    return Running(packed, reason=reason)
