"""`python -m soak.attack`: what hostile clients do to a server, and to a good client beside them.

It starts the server that it attacks, on loopback, with a small heap for Java.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from benchmarks.say import say
from soak.archives import EDITIONS, VECTORS, make
from soak.attacks.holding import (
    idle_connections,
    slow_bodies,
    slow_heads,
    unfinished_bodies,
    unfinished_bodies_with_key,
)
from soak.attacks.leaks import find_marks, guess_keys
from soak.attacks.site import Neighbour, Site, neighbour
from soak.attacks.smuggling import pipeline, smuggle
from soak.client import Ask
from soak.flags import add_server, main, serving
from soak.servers import Alone, Fleet

#: Java's options come on top of its own command line's, which may say otherwise.
HEAP = {"JAVA_TOOL_OPTIONS": "-Xmx256m"}

ATTACKS: dict[str, Callable[[Site], Awaitable[str]]] = {
    "600 bodies of a megabyte without an end, no key": unfinished_bodies,
    "600 bodies of a megabyte without an end, with a key": unfinished_bodies_with_key,
    "4,000 connections that say nothing": idle_connections,
    "200 heads, a byte a second": slow_heads,
    "200 bodies, a byte a second, with a key": slow_bodies,
    "10,000 wrong keys": guess_keys,
    "12 requests in one go": pipeline,
}


@dataclass(frozen=True)
class Attacked:
    """What an attack did.

    Attributes:
        did: to the server, in words.
        seconds: that it took.
        beside: what a good client saw meanwhile.
        grown: megabytes that the server holds more than before, right after it.
        alive: whether a good request is answered afterwards.
    """

    did: str
    seconds: float
    beside: Neighbour
    grown: float
    alive: bool


async def attack(site: Site, how: Callable[[Site], Awaitable[str]]) -> Attacked:
    """Attack a server once."""
    before, began = site.memory(), time.monotonic()
    async with neighbour(site) as beside:
        did = await how(site)
        seconds, grown = time.monotonic() - began, site.memory() - before
    async with neighbour(site) as after:
        pass
    return Attacked(did, seconds, beside, grown, after.served)


def site_of(server: Alone | Fleet) -> Site:
    """Return the server as attacks see it."""
    headers = {"Content-Type": "application/json", **server.address.headers}
    ask = Ask(f"/predictions/{VECTORS.name}", b'{"text": "Is anybody there?"}', headers)
    return Site(server, VECTORS.name, ask)


def show(attacked: dict[str, Attacked]) -> Table:
    """Return the table of attacks."""
    table = Table(title="Attacks, and a good client beside them (a request every 0.25 s)")
    table.add_column("attack")
    table.add_column("what the server did", max_width=60)
    for column in ("s", "good client answered", "its worst s", "memory MB", "alive after"):
        table.add_column(column, justify="right")
    for name, each in attacked.items():
        beside = each.beside
        table.add_row(
            name,
            each.did,
            f"{each.seconds:.1f}",
            f"{beside.answered} of {len(beside.outcomes)}",
            f"{beside.worst:.2f}",
            f"{each.grown:+.0f}",
            "yes" if each.alive else "NO",
        )
    return table


async def smuggling(site: Site) -> tuple[Table, bool]:
    """Try the smuggling forms; return their table, and whether all were kept out."""
    table = Table(title="Requests that two servers may read otherwise")
    for column in ("form", "answers", "the hidden request"):
        table.add_column(column)
    seen = await smuggle(site)
    for each in seen:
        outside = "answered by itself" if each.split else "not seen"
        words = "REACHED TORCHSERVE" if each.reached else outside
        table.add_row(each.form.name, each.reply.in_words(), words)
    return table, not any(each.reached for each in seen)


async def attack_all(arguments: argparse.Namespace) -> bool:
    """Try everything on a server; each attack on a fresh one where the last ended it."""
    archive = make(VECTORS, EDITIONS[0])
    console = Console(width=170)
    attacked: dict[str, Attacked] = {}
    left = dict(ATTACKS)
    while left:
        async with serving(arguments.server, [archive], HEAP) as server:
            site = site_of(server)
            for name, how in list(left.items()):
                say(name)
                attacked[name] = await attack(site, how)
                del left[name]
                if not attacked[name].alive:
                    break
    async with serving(arguments.server, [archive]) as server:
        site = site_of(server)
        say("smuggling forms")
        table, kept_out = await smuggling(site)
        say("words in logs")
        marks = await find_marks(site)
    console.print(show(attacked))
    console.print(table)
    console.print(f"words of requests in logs: {'; '.join(marks) or 'none'}")
    unserved = [name for name, each in attacked.items() if not (each.alive and each.beside.served)]
    order = attacked["12 requests in one go"].did
    good = kept_out and not marks and not unserved and "OUT OF ORDER" not in order
    console.print(f"verdict: {'kept off' if good else 'NOT kept off'}", *unserved, sep="\n  ")
    return good


def parse() -> argparse.Namespace:
    """Read the arguments."""
    parser = argparse.ArgumentParser(prog="soak.attack", description=__doc__)
    add_server(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(attack_all(parse())))
