"""What a mode is, at serve time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.tokenization import Row


@dataclass(frozen=True)
class ModeRequest:
    """A request that a mode has understood.

    Attributes:
        texts: what to run through the model, in the client's order.
        options: whatever the mode needs again to form the answer.
    """

    texts: Sequence[str]
    options: Any


class Mode(Protocol):
    """All that is special about one task: what a request means and what its answer looks like."""

    def __init__(self, bundle: Bundle, max_texts: int) -> None:
        """Takes the artifact's facts and the most texts that one request may carry."""

    def decode(self, payload: object) -> ModeRequest:
        """Understands a request's value (a text, or parsed JSON).

        Raises:
            RequestError: 422 for a wrong form, 413 for too many texts.
        """

    def encode(
        self, request: ModeRequest, rows: Sequence[Row], outputs: Sequence[torch.Tensor]
    ) -> Any:
        """The answer, ready for JSON, from each text's tokens and the module's output for it."""

    def plain_text(self, answer: Any) -> str:
        """The same answer in as few words as can be, for clients that accept text/plain."""
