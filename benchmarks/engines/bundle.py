"""This repository's own archives, in each precision, and the recipe that they replace."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from benchmarks.archives import Made, NotMade, make_archive
from benchmarks.engines.torchserve import TorchServe
from benchmarks.texts import FILE

#: TorchServe's example, as a config: traced at one length, every text padded to it, one by one.
RECIPE = {
    "padding": "max_length",
    "max_length": 150,
    "batch_size": 1,
    "precision": "float32",
    "packed_weights": False,
}


class Bundle(TorchServe):
    """The archive of a checkpoint in one precision, everything else by default.

    Raises:
        NotMade: this precision cannot be had.
    """

    def __init__(self, checkpoint: Path, precision: str) -> None:
        self.made = make_bundle(checkpoint, precision)
        super().__init__(self.made.archive)


def make_bundle(checkpoint: Path, precision: str) -> Made:
    """The archive in a precision; a lower one than float32 is tried on the benchmark's texts.

    Raises:
        NotMade: it cannot be had.
    """
    made = _attempt(checkpoint, precision)
    if isinstance(made, NotMade):
        raise made
    return made


@cache
def _attempt(checkpoint: Path, precision: str) -> Made | NotMade:
    """Once a run: several parts want the same archives, and a refusal takes minutes."""
    settings: dict[str, object] = {}
    if precision != "float32":
        settings = {"precision": precision, "calibration_file": str(FILE)}
    try:
        return make_archive(precision, checkpoint, settings)
    except NotMade as error:
        return error


def recipe(checkpoint: Path) -> TorchServe:
    """Our own static mode, unpacked and unbatched."""
    return TorchServe(make_archive("recipe", checkpoint, RECIPE).archive)
