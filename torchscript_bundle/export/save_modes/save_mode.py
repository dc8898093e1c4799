"""The base of save modes: how a model is proven, and which files a worker loads it from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.inputs import InputMaker
from torchscript_bundle.export.modes.base import ExportMode
from torchscript_bundle.export.pair_trial import try_pairs
from torchscript_bundle.export.pooling import SentenceHead
from torchscript_bundle.export.proof import Proof
from torchscript_bundle.export.source import Source
from torchscript_bundle.export.tokenizer_file import special_ids
from torchscript_bundle.jit.verify import Case
from torchscript_bundle.serving.artifact import Output


@dataclass(frozen=True)
class Job:
    """A model to export; `inputs` names the module's arguments, serving reads `mode_options`.

    `head` is what follows the transformer where that is not in the model itself.
    """

    config: SetupConfig
    source: Source
    mode: ExportMode
    inputs: tuple[str, ...]
    mode_options: dict[str, Any]
    head: SentenceHead | None = None

    def make_inputs(self, *, pairs: bool | None = None) -> InputMaker:
        """Return the maker of inputs, by default of pairs where every request holds a pair."""
        special = next((each.special for each in self.mode.outputs if each.special), None)
        return InputMaker(
            self.source.tokenizer,
            self.inputs,
            torch.device(self.config.device),
            pairs=self.mode.pairs == "always" if pairs is None else pairs,
            holding=special_ids(self.source.tokenizer)[special] if special else None,
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


class SaveMode(ABC):
    """One way to bring a model to a worker; `proving` says what `prove` does, for the screen."""

    proving: str

    def inputs(self, mode: ExportMode, source: Source) -> tuple[str, ...]:
        """Return the names of the module's arguments, in order."""
        return mode.input_names(source.model, source.tokenizer)

    @abstractmethod
    def outputs(self, mode: ExportMode) -> tuple[Output, ...]:
        """Return the outputs of the worker's forward pass, in order."""

    @abstractmethod
    def options(self, job: Job) -> dict[str, Any]:
        """Return what the save mode's loader reads (`Bundle.save_options`), ready for JSON."""

    @abstractmethod
    def prove(self, job: Job) -> Proof:
        """Find the strongest claim about shapes that holds; ExportError if none does."""

    @abstractmethod
    def save(self, job: Job, proof: Proof, folder: Path) -> Proof:
        """Write the model's files into `folder`, load and compare them, and return their proof."""
