"""Memory of a server's processes over time, by what they are for."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from dataclasses import dataclass, field

import psutil

from benchmarks.figures import median
from soak.family import role
from soak.servers import UnderTest

EVERY_SECONDS = 15.0
#: After which memory must be flat, and over how long it is averaged.
SETTLED_SECONDS, AVERAGED_SECONDS = 600.0, 300.0
#: How much it may grow after that.
MOST_GROWTH = 0.05


@dataclass
class Memory:
    """Samples of (seconds since the start, megabytes by role); processes share them evenly."""

    samples: list[tuple[float, dict[str, float]]] = field(default_factory=list)

    def sample(self, server: UnderTest, seconds: float) -> None:
        """Take a sample."""
        held: dict[str, float] = defaultdict(float)
        for process in server.processes():
            with contextlib.suppress(psutil.Error):
                name = role(process)
                if name:
                    held[name] += process.memory_full_info().pss / 1e6
        self.samples.append((seconds, dict(held)))

    def at(self, name: str, first: float, last: float) -> float | None:
        """Return the median of what a kind of process held between two times."""
        found = [held.get(name, 0.0) for at, held in self.samples if first <= at <= last]
        return median(found) if found else None

    def roles(self) -> list[str]:
        """Return all roles."""
        return sorted({name for _, held in self.samples for name in held})

    def growth(self) -> dict[str, float] | None:
        """Return how much each role grew after ten minutes; None if that was too short."""
        last = self.samples[-1][0] if self.samples else 0.0
        if last < SETTLED_SECONDS + 2 * AVERAGED_SECONDS:
            return None
        grown = {}
        for name in self.roles():
            before = self.at(name, SETTLED_SECONDS, SETTLED_SECONDS + AVERAGED_SECONDS)
            after = self.at(name, last - AVERAGED_SECONDS, last)
            if before and after:
                grown[name] = after / before - 1
        return grown


async def watch(server: UnderTest, memory: Memory, stop: asyncio.Event) -> None:
    """Take samples until told to stop."""
    began = time.monotonic()
    while not stop.is_set():
        await asyncio.to_thread(memory.sample, server, time.monotonic() - began)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), EVERY_SECONDS)
    await asyncio.to_thread(memory.sample, server, time.monotonic() - began)
