"""What the benchmark knows of a server."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil

READY_SECONDS = 180


@dataclass(frozen=True)
class Endpoint:
    """A server that answers.

    Attributes:
        url: takes POSTs of `{"text": "..."}`.
        process: the parent of all its processes.
        headers: that its requests need.
        metrics: URL of its counters in Prometheus' form, if it has those.
    """

    url: str
    process: psutil.Process
    headers: dict[str, str] = field(default_factory=dict)
    metrics: str | None = None

    def pause(self) -> None:
        """Its processes get no CPU from now on, so that others can be measured alone."""
        for each in self._family():
            each.suspend()

    def resume(self) -> None:
        """They go on."""
        for each in self._family():
            each.resume()

    def _family(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


class Engine(Protocol):
    """A server of the benchmark's model."""

    def start(self, folder: Path) -> Endpoint:
        """Starts it, with its files in a folder of its own; returns when it has answered."""

    def stop(self) -> None:
        """Ends it."""
