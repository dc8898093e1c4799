"""The base of modes at build time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedTokenizerBase

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.inputs import input_names
from torchscript_bundle.export.pooling import SentenceHead, wrap_pooled
from torchscript_bundle.export.proof import Proof
from torchscript_bundle.export.quality.decisions import Comparison, Item
from torchscript_bundle.export.source import Source
from torchscript_bundle.export.wrappers import wrap_model
from torchscript_bundle.serving.artifact import Output
from torchscript_bundle.serving.modes.mode_options import ModeOptions

#: "offered": a request may hold a second text, if the model was seen to take two.
Pairs = Literal["never", "offered", "always"]


@dataclass(frozen=True)
class Given:
    """The arguments of a mode's wrapper, besides the model.

    Attributes:
        inputs: names of the module's arguments, in order.
        options: the mode's options, as the artifact has them.
        head: what follows the transformer where that is not in the model itself.
    """

    inputs: Sequence[str]
    options: Mapping[str, Any]
    head: SentenceHead | None = None


class ExportMode(ABC):
    """Exports the model of one task; by default, one forward pass gives the head's logits.

    `export.tasks` has the facts that the config needs. `outputs` names the outputs of the wrapped
    module, in order; `pairs` says whether a row holds two texts; `traced_dimensions` is the number
    of dimensions of each output of a module that others traced, None where that cannot be served.
    """

    outputs: tuple[Output, ...] = (Output("logits"),)
    pairs: Pairs = "never"
    traced_dimensions: int | None = None

    @property
    def model_outputs(self) -> tuple[Output, ...]:
        """Members of the ModelOutput of the model itself, for workers that run it eagerly."""
        return self.outputs

    def input_names(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
        """Return the names of the module's arguments, in order."""
        return input_names(model, tokenizer)

    def further_inputs(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of arguments after those, which the head needs."""
        return ()

    def padding_side(self, tokenizer: PreTrainedTokenizerBase) -> Literal["left", "right"]:
        """Return where rows are padded."""
        return "left" if tokenizer.padding_side == "left" else "right"

    def head(self, source: Source, config: SetupConfig) -> SentenceHead | None:
        """Return what follows the transformer where that is not in the model itself."""
        return source.head

    def wrap(self, model: torch.nn.Module, given: Given) -> torch.nn.Module:
        """Return a module that takes the inputs, int64 `[batch, length]`, and returns a tuple."""
        if given.head is not None:
            return wrap_pooled(model, given.inputs, given.head)
        return wrap_model(model, given.inputs, tuple(output.name for output in self.outputs))

    def reference(self, model: torch.nn.Module, given: Given) -> torch.nn.Module:
        """Return what the trace of `wrap` is compared with; overridden where `wrap` saves work."""
        return self.wrap(model, given)

    def prove(self, model: Any, config: SetupConfig, options: Mapping[str, Any]) -> Proof:
        """Make the module of a mode that generates text, and compare it with the model."""
        raise NotImplementedError

    def labels(self, model_config: Any, num_labels: int | None, artifacts: Path) -> tuple[str, ...]:
        """Return the labels by index; empty for a mode without labels."""
        return ()

    def options(self, source: Source, config: SetupConfig) -> ModeOptions:
        """Return the serving code's options; ExportError if the model lacks what they need."""
        return ModeOptions()

    def example_options(self, source: Source, config: SetupConfig) -> ModeOptions:
        """Return what the answer form of TorchServe's example needs beside `options`."""
        return ModeOptions()

    @abstractmethod
    def compare(self, expected: Item, actual: Item, options: Mapping[str, Any]) -> Comparison:
        """Compare the outputs for an item in float32 (`expected`) and at a lower precision."""
