"""What a mode is, at build time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import torch

from torchscript_bundle.export.quality.decisions import Comparison, Item
from torchscript_bundle.serving.artifact import Output

if TYPE_CHECKING:  # these read the registry of modes
    from torchscript_bundle.export.config import SetupConfig
    from torchscript_bundle.export.proof import Proof
    from torchscript_bundle.export.source import Source

#: "offered": a request may hold a second text, where the model was seen to take two.
Pairs = Literal["never", "offered", "always"]


class _Task(Protocol):
    """What every mode says of its task."""

    @property
    def artifacts_dir(self) -> str:
        """Folder with index_to_name.json and sample requests, beside the config."""

    @property
    def auto_class(self) -> str:
        """Name of the transformers Auto class that loads a model with this task's head."""

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What the wrapped module returns, in order."""

    @property
    def pairs(self) -> Pairs:
        """Whether the model gets two texts together, such as a question and its context."""

    @property
    def explained(self) -> bool:
        """Whether its answers have scores that can be explained."""

    @property
    def settings(self) -> Sequence[str]:
        """Keys of setup_config.json that this mode reads and no other."""

    @property
    def unused_weights(self) -> Sequence[str]:
        """How names of weights begin that the answers do not need, so that they may be missing."""

    def options(self, source: Source, config: SetupConfig) -> dict[str, Any]:
        """What this mode's serving code needs to know (`Bundle.mode_options`), ready for JSON.

        Raises:
            ExportError: the model or its tokenizer lacks what this mode needs.
        """

    def labels(self, model_config: Any, num_labels: int | None, artifacts: Path) -> tuple[str, ...]:
        """The labels by index; empty for a mode that has none.

        Raises:
            ExportError: the config, the artifacts folder and the model disagree.
        """

    def compare(self, expected: Item, actual: Item, options: Mapping[str, Any]) -> Comparison:
        """What a lower precision changes in the answer to an item of a request.

        Args:
            expected: what a worker computes for the item's rows in float32.
            actual: the same at the lower precision.
            options: what `options` gave.
        """


class OnePass(_Task, Protocol):
    """A mode whose model answers in one forward pass."""

    def wrap(
        self, model: torch.nn.Module, inputs: Sequence[str], options: Mapping[str, Any]
    ) -> torch.nn.Module:
        """A module that takes the named inputs by position and returns a tuple of tensors.

        Args:
            model: as transformers loaded it.
            inputs: int64 `[batch, length]` each.
            options: what `options` gave.
        """


@runtime_checkable
class Writes(_Task, Protocol):
    """A mode whose model writes: a pass for each token, around keys and values that it keeps.

    Its module has more methods than `forward`, and a proof of its own. Workers let requests join
    and leave a batch between two tokens, so that its texts are padded under a mask to any length.
    """

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of what a text is given as, in order."""

    @property
    def precisions(self) -> Sequence[str]:
        """What `precision` may be: what its workers can compute in."""

    @property
    def padding_side(self) -> Literal["left", "right"]:
        """Where its texts are padded, whatever the tokenizer does."""

    def request_tokens(self, max_length: int) -> int:
        """Most tokens that one request may hold, its text and its answer together."""

    def prove(self, model: Any, config: SetupConfig, options: Mapping[str, Any]) -> Proof:
        """Makes the module that the worker runs, and compares it with the model.

        Args:
            model: as transformers loaded it.
            config: as the user wrote it.
            options: what `options` gave.

        Raises:
            ExportError: the model cannot be traced so, or the module writes otherwise.
        """


#: All that is special about one task when its model is exported.
ExportMode = OnePass | Writes


@runtime_checkable
class GoesOn(Protocol):
    """A mode whose wrapped module goes on from what the model returns, as pooling does.

    Where workers run the model itself, its serving code does the rest.
    """

    @property
    def model_outputs(self) -> tuple[Output, ...]:
        """What the model itself returns for it: members of its ModelOutput, in order."""
