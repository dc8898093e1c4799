"""The base of modes at build time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedTokenizerBase

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.inputs import input_names
from torchscript_bundle.export.proof import Proof
from torchscript_bundle.export.quality.decisions import Comparison, Item
from torchscript_bundle.export.source import Source
from torchscript_bundle.export.wrappers import wrap_model
from torchscript_bundle.serving.artifact import Output
from torchscript_bundle.serving.modes.mode_options import ModeOptions

#: "offered": a request may hold a second text, if the model was seen to take two.
Pairs = Literal["never", "offered", "always"]


class ExportMode(ABC):
    """Exports the model of one task; by default, one forward pass gives the head's logits.

    `export.tasks` has the facts that the config needs. `outputs` names the outputs of the wrapped
    module, in order; `pairs` says whether a row holds two texts.
    """

    outputs: tuple[Output, ...] = (Output("logits"),)
    pairs: Pairs = "never"

    @property
    def model_outputs(self) -> tuple[Output, ...]:
        """Members of the ModelOutput of the model itself, for workers that run it eagerly."""
        return self.outputs

    def input_names(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
        """Return the names of the module's arguments, in order."""
        return input_names(model, tokenizer)

    def padding_side(self, tokenizer: PreTrainedTokenizerBase) -> Literal["left", "right"]:
        """Return where rows are padded."""
        return "left" if tokenizer.padding_side == "left" else "right"

    def wrap(
        self, model: torch.nn.Module, inputs: Sequence[str], options: Mapping[str, Any]
    ) -> torch.nn.Module:
        """Return a module that takes `inputs`, int64 `[batch, length]`, and returns a tuple."""
        return wrap_model(model, inputs, tuple(output.name for output in self.outputs))

    def prove(self, model: Any, config: SetupConfig, options: Mapping[str, Any]) -> Proof:
        """Make the module of a mode that generates text, and compare it with the model."""
        raise NotImplementedError

    def labels(self, model_config: Any, num_labels: int | None, artifacts: Path) -> tuple[str, ...]:
        """Return the labels by index; empty for a mode without labels."""
        return ()

    def options(self, source: Source, config: SetupConfig) -> ModeOptions:
        """Return the serving code's options; ExportError if the model lacks what they need."""
        return ModeOptions()

    @abstractmethod
    def compare(self, expected: Item, actual: Item, options: Mapping[str, Any]) -> Comparison:
        """Compare the outputs for an item in float32 (`expected`) and at a lower precision."""
