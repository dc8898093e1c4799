"""Does nothing; TorchServe loads it in a worker."""

from __future__ import annotations

from typing import Any


class FloorHandler:
    """One answer for all."""

    def initialize(self, context: Any) -> None:
        """Nothing to load."""

    def handle(self, data: list[Any], context: Any) -> list[bytes]:
        """The answer for each request."""
        return [b'{"label": "LABEL_1", "score": 0.5}'] * len(data)
