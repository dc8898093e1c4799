"""Guess keys, and look whether what clients send comes up in logs."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

from soak.attacks.site import Site, exchange
from soak.client import Ask, connect, send

GUESSES, CONNECTIONS = 10_000, 16
LOGGED_SECONDS = 2.0
#: Of a request's way into a log -> the request; `{mark}` is a word that must not be logged.
PLACES = {
    "after %3F": ("POST", "/predictions/{model}%3F{mark}", "{{}}"),
    "after ;": ("POST", "/predictions/{model};{mark}", "{{}}"),
    "after #": ("POST", "/predictions/{model}#{mark}", "{{}}"),
    "query": ("POST", "/predictions/{model}?text={mark}", "{{}}"),
    "path": ("GET", "/{mark}", ""),
    "model's name": ("POST", "/predictions/{mark}", "{{}}"),
    "version": ("POST", "/predictions/{model}/{mark}", "{{}}"),
    "method": ("{mark}", "/predictions/{model}", ""),
    "text": ("POST", "/predictions/{model}", '{{"text": "{mark}"}}'),
    "JSON that is none": ("POST", "/predictions/{model}", '{{"text": "{mark}'),
    "key of the object": ("POST", "/predictions/{model}", '{{"{mark}": 1}}'),
}


async def guess_keys(site: Site) -> str:
    """Send many wrong keys as fast as they are refused."""
    statuses: Counter[str] = Counter()
    before, began = log_bytes(site.server.log_dir), time.monotonic()

    async def work(first: int) -> None:
        async with connect(1) as session:
            for number in range(first, GUESSES, CONNECTIONS):
                headers = {**site.good.headers, "Authorization": f"Bearer wrong-{number}"}
                ask = Ask(site.good.path, site.good.body, headers)
                outcome = await send(session, site.server.address.base, ask, patience=10)
                statuses[outcome.cause] += 1

    await asyncio.gather(*(work(first) for first in range(CONNECTIONS)))
    seconds = time.monotonic() - began
    grown = log_bytes(site.server.log_dir) - before
    said = ", ".join(f"{count} x {cause}" for cause, count in statuses.items())
    return f"{said} in {seconds:.1f} s; {grown / 1e6:.1f} MB of logs"


async def find_marks(site: Site) -> list[str]:
    """Send a word of its own in every place; return the places whose word a log has."""
    marks = {place: f"Xmark{number}X" for number, place in enumerate(PLACES)}
    for place, (method, path, body) in PLACES.items():
        names = {"model": site.model, "mark": marks[place]}
        content = body.format(**names).encode()
        head = site.head(len(content), site.key, path.format(**names)).decode()
        line = method.format(**names) + head.removeprefix("POST")
        await exchange(site.port, line.encode() + content, seconds=2, answers=1)
    await asyncio.sleep(LOGGED_SECONDS)
    found = []
    for path_ in sorted(each for each in site.server.log_dir.rglob("*") if each.is_file()):
        logged = path_.read_bytes()
        found += [
            f"{place} ({path_.name})" for place, mark in marks.items() if mark.encode() in logged
        ]
        if site.key.encode() in logged:
            found.append(f"the key ({path_.name})")
    return found


def log_bytes(folder: Path) -> int:
    """Return the size of all logs."""
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
