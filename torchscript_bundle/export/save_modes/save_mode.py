"""What a save mode is: how a model is proven, and which files a worker loads it from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.inputs import InputMaker
from torchscript_bundle.export.modes.base import ExportMode
from torchscript_bundle.export.proof import Proof
from torchscript_bundle.export.source import Source
from torchscript_bundle.serving.artifact import Output


@dataclass(frozen=True)
class Job:
    """What is to be exported.

    Attributes:
        config: as the user wrote it.
        source: the model and its tokenizer.
        mode: the config's.
        inputs: names of the arguments, in order.
        mode_options: what the mode's serving code will read.
    """

    config: SetupConfig
    source: Source
    mode: ExportMode
    inputs: tuple[str, ...]
    mode_options: dict[str, Any]

    def make_inputs(self, *, pairs: bool | None = None) -> InputMaker:
        """What gives the model's arguments at any shape.

        Args:
            pairs: whether a row holds two texts; None for what every request to the mode holds.
        """
        return InputMaker(
            self.source.tokenizer,
            self.inputs,
            torch.device(self.config.device),
            pairs=self.mode.pairs == "always" if pairs is None else pairs,
        )


class SaveMode(Protocol):
    """All that is special about one way to bring a model to a worker."""

    @property
    def proving(self) -> str:
        """What `prove` does, in a few words for the screen."""

    def outputs(self, mode: ExportMode) -> tuple[Output, ...]:
        """What the worker gets of a forward pass, in order."""

    def options(self, job: Job) -> dict[str, Any]:
        """What this save mode's loader needs to know (`Bundle.save_options`), ready for JSON."""

    def prove(self, job: Job) -> Proof:
        """Finds the strongest claim about shapes that holds.

        Raises:
            ExportError: none does, or the model itself fails.
        """

    def save(self, job: Job, proof: Proof, folder: Path) -> Proof:
        """Writes the model's files into `folder` and compares what loads again from there.

        Returns:
            The same proof with the results of the files.

        Raises:
            ExportError: they cannot be written or loaded, or answer differently.
        """
