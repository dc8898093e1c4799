"""What a mode is, at build time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch


class ExportMode(Protocol):
    """All that is special about one task when its model is exported."""

    @property
    def artifacts_dir(self) -> str:
        """Folder with index_to_name.json and sample requests, beside the config."""

    @property
    def auto_class(self) -> str:
        """Name of the transformers Auto class that loads a model with this task's head."""

    def wrap(self, model: torch.nn.Module, inputs: Sequence[str]) -> torch.nn.Module:
        """A module that takes the named inputs by position and returns a tuple of tensors."""

    def labels(self, model_config: Any, num_labels: int | None, artifacts: Path) -> tuple[str, ...]:
        """The labels by index; empty for a mode that has none.

        Raises:
            ExportError: the config, the artifacts folder and the model disagree.
        """

    def options(self, model_config: Any) -> dict[str, Any]:
        """What this mode's serving code needs to know about the model (`Bundle.mode_options`)."""
