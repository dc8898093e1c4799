"""Build the executor of a module on this machine: in the artifact's precision, or in float32.

Every artifact was proven in float32. A worker that lacks the artifact's lower precision is only
slower, and says so; a precision that export has not tried could be silently wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from torchscript_bundle.serving.artifact import (
    CALIBRATION_FILE,
    FLOAT32,
    INT8,
    REMAKE,
    read_json_object,
)
from torchscript_bundle.serving.engine.autocast import HalfModule
from torchscript_bundle.serving.engine.comparison import UnavailableError, comparison_rows
from torchscript_bundle.serving.engine.cuda import CARDS, CardExecutor
from torchscript_bundle.serving.engine.executors import Executor, ModuleExecutor, PackedExecutor
from torchscript_bundle.serving.engine.onednn import Arguments, Calibration, Packed, pack, pack_int8
from torchscript_bundle.serving.engine.padding import Collator
from torchscript_bundle.serving.engine.planner import useful_merge_counts
from torchscript_bundle.serving.engine.torchscript import freeze
from torchscript_bundle.serving.errors import ArtifactError
from torchscript_bundle.serving.text.tokenizer import Row

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Running:
    """A worker's precision, and the reason if it is not the artifact's."""

    precision: str = FLOAT32
    reason: str | None = None


@dataclass(frozen=True)
class LoadedModule:
    """The artifact's module as saved; a stretched word, `text`, compares executors with it."""

    folder: Path
    module: Any
    collator: Collator
    max_rows: int
    text: Row

    @property
    def examples(self) -> list[Arguments]:
        """Arguments to compare outputs on, with padding and without."""
        groups = comparison_rows(self.collator.bundle, self.max_rows, self.text)
        return [self.collator.collate(rows) for rows in groups]

    @property
    def merge_counts(self) -> tuple[int, ...]:
        """How many batches are worth merging into one pass."""
        return useful_merge_counts(self.collator.bundle, self.max_rows)


def _pack(loaded: LoadedModule, precision: str) -> ModuleExecutor:
    dtype = getattr(torch, precision)
    examples = {"forward": loaded.examples}
    packed = pack(loaded.module, examples, dtype, loaded.merge_counts)
    return _packed(loaded, packed, precision)


def _pack_int8(loaded: LoadedModule, precision: str) -> ModuleExecutor:
    path = loaded.folder / CALIBRATION_FILE
    try:
        calibration = Calibration.from_dict(read_json_object(path))
    except ValueError as error:
        raise ArtifactError(f"{path}: {error}; {REMAKE}") from error
    packed = pack_int8(loaded.module, loaded.examples, calibration, loaded.merge_counts)
    return _packed(loaded, packed, precision)


def _packed(loaded: LoadedModule, packed: Packed, precision: str) -> ModuleExecutor:
    if packed.reason is not None:
        raise UnavailableError(packed.reason)
    return PackedExecutor(loaded.collator, packed, precision)


def _halve(loaded: LoadedModule, precision: str) -> ModuleExecutor:
    dtype, whole = getattr(torch, precision), loaded.collator.bundle.explanations
    half = HalfModule(loaded.module, loaded.examples, dtype, cast_weights=not whole)
    return ModuleExecutor(loaded.collator, half, precision)


def _freeze(loaded: LoadedModule, precision: str) -> ModuleExecutor:
    """Run the module as saved, its weights made constants where outputs stay equal."""
    return ModuleExecutor(loaded.collator, freeze(loaded.module, loaded.examples), precision)


#: Precision -> kind of device -> its builder, which may raise UnavailableError.
BUILDERS: dict[str, dict[str, Callable[[LoadedModule, str], ModuleExecutor]]] = {
    FLOAT32: {"cpu": _pack, "cuda": _freeze},
    "bfloat16": {"cpu": _pack, "cuda": _halve},
    "float16": {"cuda": _halve},
    INT8: {"cpu": _pack_int8},
}


@torch.no_grad()
def build_executor(loaded: LoadedModule, *, pack_weights: bool) -> Executor:
    """Build the fastest executor that is right here; on a GPU, one that captures CUDA graphs.

    `pack_weights` rewrites the module, in the artifact's precision or, with a warning, in float32;
    else it runs as saved. ArtifactError: the artifact itself lacks what its precision needs.
    """
    bundle, device = loaded.collator.bundle, loaded.collator.device
    scripted = bundle.save_mode == "torchscript"
    reason: str | None = None
    for precision in (
        dict.fromkeys((bundle.precision, FLOAT32)) if scripted and pack_weights else ()
    ):
        try:
            build = BUILDERS.get(precision, {}).get(device.type)
            if build is None:
                raise UnavailableError(f"there is no {precision} on a {device.type} device")
            executor = build(loaded, precision)
            break
        except UnavailableError as error:
            if precision != FLOAT32:
                reason = str(error)
                warn_of_float32(precision, reason)
    else:
        plain = ModuleExecutor(loaded.collator, loaded.module)
        executor = _freeze(loaded, FLOAT32) if scripted else plain
    executor.reason = reason
    if device.type not in CARDS:
        return executor
    return CardExecutor(CARDS[device.type](device), executor, loaded.collator, loaded.max_rows)


def warn_of_float32(precision: str, reason: str) -> None:
    """Log why a model does not run in the artifact's precision."""
    logger.warning(
        "the archive asks for %s, which cannot be had here: it runs in float32, slower: %s",
        precision,
        reason,
    )
