"""Send requests on kept connections, and say what became of each."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal

import aiohttp

#: Statuses by which a server says before it begins that it will not; with `Retry-After`.
REFUSALS = (429, 503)


@dataclass(frozen=True)
class Ask:
    """A request: its path after the server's address, its body and its headers."""

    path: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "POST"


@dataclass(frozen=True)
class Outcome:
    """What became of a request.

    Attributes:
        sent, ended: by `time.monotonic`.
        status: of the answer; None without a whole one.
        retry_after: that header of the answer.
        body: of the answer.
        problem: why there is no answer: `unconnected` (nothing was sent), `reset`, `timeout`.
    """

    sent: float
    ended: float
    status: int | None = None
    retry_after: str | None = None
    body: bytes = b""
    problem: str = ""

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.sent

    @property
    def fate(self) -> Literal["answered", "refused", "unconnected", "lost"]:
        """Whether the server kept its word.

        `refused`: it said that it would not begin. `unconnected`: there was none to connect to.
        `lost`: a reset connection, no answer in time, a failure of the server's own.
        """
        if self.status is None:
            return "unconnected" if self.problem == "unconnected" else "lost"
        if self.status in REFUSALS and self.retry_after is not None:
            return "refused"
        return "lost" if self.status >= 500 else "answered"

    @property
    def cause(self) -> str:
        """The status, or the problem."""
        return str(self.status) if self.status is not None else self.problem


def connect(connections: int) -> aiohttp.ClientSession:
    """Return a session of at most so many connections; 0: as many as requests want."""
    connector = aiohttp.TCPConnector(limit=connections, keepalive_timeout=60)
    return aiohttp.ClientSession(connector=connector, auto_decompress=False)


async def send(
    session: aiohttp.ClientSession,
    base: str,
    ask: Ask,
    *,
    patience: float,
    pieces: AsyncIterator[bytes] | None = None,
) -> Outcome:
    """Send a request and wait for the whole answer, `patience` seconds at most.

    `pieces`, the body bit by bit, are sent in place of it.
    """
    timeout = aiohttp.ClientTimeout(total=patience)
    sent = time.monotonic()
    try:
        async with session.request(
            ask.method,
            base + ask.path,
            data=ask.body or None if pieces is None else pieces,
            headers=ask.headers,
            timeout=timeout,
            skip_auto_headers=("Content-Type",),
        ) as answer:
            body = await answer.read()
            retry_after = answer.headers.get("Retry-After")
            return Outcome(sent, time.monotonic(), answer.status, retry_after, body)
    except TimeoutError:
        problem = "timeout"
    except aiohttp.ClientConnectorError:
        problem = "unconnected"
    except (aiohttp.ClientError, OSError):
        problem = "reset"
    return Outcome(sent, time.monotonic(), problem=problem)
