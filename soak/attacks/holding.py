"""Hold connections: bodies that do not end, nothing at all, a byte a second."""

from __future__ import annotations

import asyncio
import resource
import time
from collections import Counter
from dataclasses import dataclass

from benchmarks.figures import median
from soak.attacks.site import HOST, STATUS, Site

HELD_SECONDS = 20.0
#: How many connections are being opened at one time.
OPENING = 100
BODIES, IDLE, SLOW = 600, 4000, 200
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Held:
    """The end of a held connection, after so many seconds."""

    end: str
    seconds: float


async def _hold(port: int, first: bytes, drip: bytes, opening: asyncio.Semaphore) -> Held:
    """Send the first bytes, then one of `drip` a second, until the server hangs up."""
    try:
        async with opening:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(HOST, port), 10)
    except (OSError, TimeoutError):
        return Held("not accepted", 0.0)
    began = time.monotonic()
    got = asyncio.create_task(reader.read(4096))
    sending = asyncio.create_task(_send(writer, first, drip))
    try:
        await asyncio.wait([got], timeout=HELD_SECONDS)
        if not got.done():
            return Held("held to the end", HELD_SECONDS)
        said = STATUS.search(got.result()) if got.exception() is None else None
        words = f"answered {int(said[1])}" if said else "hung up"
        return Held(words, time.monotonic() - began)
    finally:
        for task in (got, sending):
            task.cancel()
        await asyncio.gather(got, sending, return_exceptions=True)
        writer.transport.abort()


async def _send(writer: asyncio.StreamWriter, first: bytes, drip: bytes) -> None:
    writer.write(first)
    await writer.drain()
    for byte in drip:
        await asyncio.sleep(1)
        writer.write(bytes([byte]))
        await writer.drain()


async def _hold_many(site: Site, count: int, first: bytes, drip: bytes = b"") -> str:
    opening = asyncio.Semaphore(OPENING)
    held = await asyncio.gather(
        *(_hold(site.port, first, drip, opening) for _ in range(_allowed(count)))
    )
    ends = Counter(each.end for each in held)
    words = []
    for end, times in ends.most_common():
        after = median(each.seconds for each in held if each.end == end)
        words.append(f"{times} {end}" + (f" after {after:.1f} s" if after else ""))
    return "; ".join(words)


def _allowed(count: int) -> int:
    """Return how many connections this process may have, with room for the good client."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return min(count, limit - 200)


async def unfinished_bodies(site: Site) -> str:
    """Send all but the end of a megabyte, without a key."""
    return await _hold_many(site, BODIES, site.head(MEGABYTE) + b" " * (MEGABYTE - 1))


async def unfinished_bodies_with_key(site: Site) -> str:
    """Send all but the end of a megabyte, with a right key."""
    return await _hold_many(site, BODIES, site.head(MEGABYTE, site.key) + b" " * (MEGABYTE - 1))


async def idle_connections(site: Site) -> str:
    """Connect, and say nothing."""
    return await _hold_many(site, IDLE, b"")


async def slow_heads(site: Site) -> str:
    """Send the head of a request, a byte a second."""
    head = site.head(100)
    return await _hold_many(site, SLOW, head[:20], head[20:])


async def slow_bodies(site: Site) -> str:
    """Send a body, a byte a second, with a right key."""
    return await _hold_many(site, SLOW, site.head(1000, site.key), b" " * 1000)
