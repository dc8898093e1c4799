"""The base of save modes: how a model is proven, and which files a worker loads it from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.inputs import InputMaker
from torchscript_bundle.export.modes.base import ExportMode
from torchscript_bundle.export.pair_trial import try_pairs
from torchscript_bundle.export.proof import Proof
from torchscript_bundle.export.source import Source
from torchscript_bundle.jit.verify import Case
from torchscript_bundle.serving.artifact import Output


@dataclass(frozen=True)
class Job:
    """A model to export; `inputs` names the module's arguments, serving reads `mode_options`."""

    config: SetupConfig
    source: Source
    mode: ExportMode
    inputs: tuple[str, ...]
    mode_options: dict[str, Any]

    def make_inputs(self, *, pairs: bool | None = None) -> InputMaker:
        """Return the maker of inputs, by default of pairs where every request holds a pair."""
        return InputMaker(
            self.source.tokenizer,
            self.inputs,
            torch.device(self.config.device),
            pairs=self.mode.pairs == "always" if pairs is None else pairs,
        )


def prove_pairs(
    job: Job,
    proof: Proof,
    eager: torch.nn.Module,
    objection: Callable[[Sequence[Case]], str | None],
) -> Proof:
    """Add to a proof whether rows may hold two texts; `objection` says why not, or None."""
    if job.mode.pairs != "offered":
        return replace(proof, pairs=job.mode.pairs == "always")
    return try_pairs(proof, eager, job.make_inputs(pairs=True), job.config.lengths, objection)


class SaveMode(Protocol):
    """One way to bring a model to a worker."""

    @property
    def proving(self) -> str:
        """What `prove` does, for the screen."""

    def outputs(self, mode: ExportMode) -> tuple[Output, ...]:
        """Return the outputs of the worker's forward pass, in order."""

    def options(self, job: Job) -> dict[str, Any]:
        """Return what the save mode's loader reads (`Bundle.save_options`), ready for JSON."""

    def prove(self, job: Job) -> Proof:
        """Find the strongest claim about shapes that holds; ExportError if none does."""

    def save(self, job: Job, proof: Proof, folder: Path) -> Proof:
        """Write the model's files into `folder`, load and compare them, and return their proof."""
