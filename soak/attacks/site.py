"""The server that is attacked, a good client beside the attack, and raw connections."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import psutil

from soak.client import Ask, Outcome, connect, send
from soak.servers import Alone, Fleet

HOST = "127.0.0.1"
#: The good client sends a request so often, and waits so long.
EVERY_SECONDS, PATIENCE = 0.25, 10.0
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")


@dataclass(frozen=True)
class Site:
    """A server with a model, and a good request to it."""

    server: Alone | Fleet
    model: str
    good: Ask

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server.address.port

    @property
    def key(self) -> str:
        """A right key."""
        return self.server.address.key

    def memory(self) -> float:
        """Return the megabytes that all its processes hold."""
        total = 0
        for process in self.server.processes():
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
        return total / 1e6

    def head(self, length: int, key: str = "", path: str = "") -> bytes:
        """Return the head of a request with a body of so many bytes."""
        lines = [f"POST {path or self.good.path} HTTP/1.1", f"Host: {HOST}"]
        lines += ["Content-Type: application/json", f"Content-Length: {length}"]
        lines += [f"Authorization: Bearer {key}"] if key else []
        return "\r\n".join([*lines, "", ""]).encode()


@dataclass
class Neighbour:
    """What a good client saw during an attack."""

    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def answered(self) -> int:
        """How many of its requests got a 200."""
        return sum(each.status == 200 for each in self.outcomes)

    @property
    def worst(self) -> float:
        """The longest that it waited."""
        return max((each.seconds for each in self.outcomes), default=0.0)

    @property
    def served(self) -> bool:
        """Whether every request was answered."""
        return bool(self.outcomes) and self.answered == len(self.outcomes)


@asynccontextmanager
async def neighbour(site: Site) -> AsyncIterator[Neighbour]:
    """Send good requests, each on a connection of its own, as long as this lasts."""
    seen = Neighbour()
    stop = asyncio.Event()

    async def once() -> None:
        async with connect(1) as session:
            seen.outcomes.append(
                await send(session, site.server.address.base, site.good, patience=PATIENCE)
            )

    async def work(group: asyncio.TaskGroup) -> None:
        while True:  # once at least
            group.create_task(once())
            if stop.is_set():
                return
            await asyncio.sleep(EVERY_SECONDS)

    async with asyncio.TaskGroup() as group:
        group.create_task(work(group))
        try:
            yield seen
        finally:
            stop.set()


@dataclass(frozen=True)
class Reply:
    """What came back on a connection: statuses, bytes, and whether the server hung up."""

    statuses: tuple[int, ...]
    raw: bytes
    closed: bool

    def in_words(self) -> str:
        """Say it in short."""
        said = ", ".join(map(str, self.statuses)) or "no answer"
        return f"{said}{', hung up' if self.closed else ''}"


async def exchange(port: int, data: bytes, *, seconds: float, answers: int | None = None) -> Reply:
    """Send bytes; read until the server hangs up, has answered so often, or the time is over."""
    raw, closed = b"", False
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return Reply((), b"", closed=True)
    deadline = time.monotonic() + seconds
    try:
        writer.write(data)
        while (left := deadline - time.monotonic()) > 0:
            got = await asyncio.wait_for(reader.read(65536), left)
            closed = not got
            raw += got
            if closed or (answers is not None and len(STATUS.findall(raw)) >= answers):
                break
    except TimeoutError:
        pass
    except OSError:
        closed = True
    finally:
        writer.close()
    return Reply(tuple(map(int, STATUS.findall(raw))), raw, closed)
