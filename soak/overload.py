"""`python -m soak.overload`: useful answers a second under more load than a server can bear.

An answer is useful if it is a 200 that came before its client gave up.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from rich.console import Console
from rich.table import Table

from benchmarks.figures import median, percentile
from benchmarks.say import say
from soak.archives import make_demo
from soak.client import Ask, Outcome, connect, send
from soak.flags import add_server, main, serving
from soak.servers import Address
from soak.texts import texts

#: Offered loads, in parts of what saturates.
LOADS = (0.5, 1.0, 2.0, 3.0)
#: Goodput under overload must stay at this part of the peak.
KEPT = 0.85
CONNECTIONS = 16
#: Words of a text: as many tokens as the demo model reads, and some more.
WORDS = 150
#: Header by which a request says how many seconds its client waits.
DEADLINE = "X-Request-Timeout"
#: A client without the answers that it wants ends so many seconds after the storm should have.
STORM_SECONDS = 60.0


@dataclass(frozen=True)
class Target:
    """Where the load goes: one model of one server, whose requests are told apart by their text."""

    address: Address
    model: str
    asks: Iterator[Ask]

    def ask(self, patience: float) -> Ask:
        """Return the next request of a client that waits so long."""
        ask = next(self.asks)
        headers = {**ask.headers, **self.address.headers, DEADLINE: f"{patience:g}"}
        return Ask(ask.path, ask.body, headers)


@dataclass(frozen=True)
class Storm:
    """Clients that each want some answers, wait too short a time, and come again.

    A polite one waits as long as `Retry-After` asks; the others come again at once.
    """

    clients: int = 200
    patience: float = 0.5
    answers: int = 10
    polite: bool = False


@dataclass
class Seen:
    """Outcomes of a load, and what it took."""

    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    outcomes: list[Outcome] = field(default_factory=list)
    unsatisfied: int = 0

    def add(self, outcome: Outcome) -> None:
        """Note an outcome."""
        self.outcomes.append(outcome)

    @property
    def useful(self) -> list[Outcome]:
        """Answers that somebody waited for, while the load lasted."""
        end = self.began + self.seconds
        return [each for each in self.outcomes if each.status == 200 and each.ended <= end]

    @property
    def goodput(self) -> float:
        """Useful answers a second."""
        return len(self.useful) / self.seconds

    def causes(self) -> str:
        """Say how often each other end was seen."""
        counted = Counter(each.cause for each in self.outcomes if each.status != 200)
        return ", ".join(f"{count} x {cause}" for cause, count in counted.most_common()) or "-"


async def saturate(target: Target, seconds: float) -> Seen:
    """Keep 16 connections busy."""
    seen = Seen()

    async def work(session: aiohttp.ClientSession) -> None:
        while time.monotonic() < seen.began + seconds:
            seen.add(await send(session, target.address.base, target.ask(60), patience=60))

    async with connect(CONNECTIONS) as session:
        await asyncio.gather(*(work(session) for _ in range(CONNECTIONS)))
    seen.seconds = seconds
    return seen


async def offer(target: Target, rate: float, seconds: float, patience: float) -> Seen:
    """Send requests at random moments, `rate` a second, whatever becomes of earlier ones."""
    chance = random.Random(0)
    seen = Seen()

    async def ask(session: aiohttp.ClientSession) -> None:
        asked = target.ask(patience)
        seen.add(await send(session, target.address.base, asked, patience=patience))

    async with connect(0) as session, asyncio.TaskGroup() as group:
        at = seen.began
        while (at := at + chance.expovariate(rate)) < seen.began + seconds:
            await asyncio.sleep(at - time.monotonic())
            group.create_task(ask(session))
    seen.seconds = seconds
    return seen


async def storm(target: Target, how: Storm, limit: float) -> Seen:
    """Let impatient clients come again until each has its answers, `limit` seconds at most."""
    seen = Seen()

    async def client(session: aiohttp.ClientSession) -> None:
        wanted = how.answers
        while wanted and time.monotonic() < seen.began + limit:
            asked = target.ask(how.patience)
            outcome = await send(session, target.address.base, asked, patience=how.patience)
            seen.add(outcome)
            wanted -= outcome.status == 200
            if how.polite and outcome.retry_after is not None:
                # Those that were told the same must not all come at the same moment.
                await asyncio.sleep(float(outcome.retry_after) * random.uniform(1, 1.5))
            elif outcome.status is None and outcome.problem != "timeout":
                await asyncio.sleep(0.01)  # no server: a loop would keep the client's core alone
        seen.unsatisfied += wanted > 0

    async with connect(0) as session:
        await asyncio.gather(*(client(session) for _ in range(how.clients)))
    seen.seconds = time.monotonic() - seen.began
    return seen


@dataclass(frozen=True)
class Plan:
    """How much is measured: seconds of each load, patience of its clients, and the storms."""

    seconds: float
    patience: float
    storms: tuple[Storm, ...]


async def measure(target: Target, plan: Plan, console: Console) -> bool:
    """Measure, print both tables, and return whether goodput held and the storms ended."""
    spent = time.process_time(), time.monotonic()
    say("saturate")
    await saturate(target, plan.seconds / 4)  # warms up
    full = await saturate(target, plan.seconds)
    peak = full.goodput
    loads = {}
    for load in LOADS:
        say(f"offer {load:g} of {peak:.0f} a second")
        loads[load] = await offer(target, load * peak, plan.seconds, plan.patience)
    best = max(peak, *(each.goodput for each in loads.values()))
    console.print(_load_table(full, loads, best, plan))
    storms = {}
    for how in plan.storms:
        say(f"storm of {how.clients} {'polite' if how.polite else 'impatient'} clients")
        ideal = how.clients * how.answers / best
        storms[how] = await storm(target, how, ideal + STORM_SECONDS)
        await _calm(target)
    console.print(_storm_table(storms, best))
    cpu = (time.process_time() - spent[0]) / (time.monotonic() - spent[1])
    console.print(f"the clients took {cpu:.0%} of a core")
    held = all(each.goodput >= KEPT * best for load, each in loads.items() if load > 1)
    ended = all(not each.unsatisfied for each in storms.values())
    console.print(f"verdict: goodput {'held' if held else 'did NOT hold'} {KEPT:.0%} of the peak; ")
    console.print(f"the storms {'ended by themselves' if ended else 'did NOT all end'}")
    return held and ended


async def _calm(target: Target) -> None:
    """Wait until the server answers quickly again, so that one storm does not feed the next."""
    began = time.monotonic()
    async with connect(1) as session:
        while time.monotonic() < began + STORM_SECONDS:
            outcome = await send(session, target.address.base, target.ask(1), patience=1)
            if outcome.status == 200:
                break
            await asyncio.sleep(0.2)
    say(f"quiet again after {time.monotonic() - began:.1f} s")


def _load_table(full: Seen, loads: dict[float, Seen], best: float, plan: Plan) -> Table:
    title = f"Useful answers a second by offered load; each client waits {plan.patience:g} s"
    table = Table(title=title)
    for column in ("offered", "requests", "useful a second", "of the peak", "p50 s", "p99 s"):
        table.add_column(column, justify="right")
    table.add_column("other ends")
    rows = {"16 connections": full, **{f"{load:g} x": seen for load, seen in loads.items()}}
    for name, seen in rows.items():
        took = [each.seconds for each in seen.useful] or [float("nan")]
        share = f"{seen.goodput / best:.0%}"
        times = (f"{median(took):.2f}", f"{percentile(took, 99):.2f}")
        asked = str(len(seen.outcomes))
        table.add_row(name, asked, f"{seen.goodput:.1f}", share, *times, seen.causes())
    return table


def _storm_table(storms: dict[Storm, Seen], best: float) -> Table:
    table = Table(title="Retry storms: each client wants its answers, gives up and comes again")
    columns = ("clients", "wait s", "answers each", "tries", "useful a second", "of the peak")
    for column in (*columns, "seconds", "at best", "unsatisfied"):
        table.add_column(column, justify="right")
    table.add_column("other ends")
    for how, seen in storms.items():
        table.add_row(
            f"{how.clients} {'polite' if how.polite else 'impatient'}",
            f"{how.patience:g}",
            str(how.answers),
            str(len(seen.outcomes)),
            f"{seen.goodput:.1f}",
            f"{seen.goodput / best:.0%}",
            f"{seen.seconds:.1f}",
            f"{how.clients * how.answers / best:.1f}",
            str(seen.unsatisfied),
            seen.causes(),
        )
    return table


def target_of(address: Address, model: str) -> Target:
    """Return a target whose requests are long texts in turn."""
    path = f"/predictions/{model}"
    kind = {"Content-Type": "application/json"}
    bodies = [json.dumps({"text": text}).encode() for text in texts(512, WORDS)]
    return Target(address, model, itertools.cycle(Ask(path, body, kind) for body in bodies))


@asynccontextmanager
async def targeted(arguments: argparse.Namespace) -> AsyncIterator[Target]:
    """Name the model of an address, or start a server with the demo model."""
    if arguments.url:
        base, _, model = arguments.url.partition("/predictions/")
        yield target_of(Address(base, os.environ.get("KEY", "")), model)
        return
    async with serving(arguments.server, [make_demo()]) as server:
        yield target_of(server.address, "reviews")


async def overload(arguments: argparse.Namespace) -> bool:
    """Measure a server."""
    kinds = (False, True)
    storms = tuple(Storm(answers=arguments.answers, polite=polite) for polite in kinds)
    async with targeted(arguments) as target:
        plan = Plan(arguments.seconds, arguments.patience, storms)
        return await measure(target, plan, Console(width=160))


def parse() -> argparse.Namespace:
    """Read the arguments."""
    parser = argparse.ArgumentParser(prog="soak.overload", description=__doc__)
    add_server(parser)
    what = "an address (http://host:port/predictions/model) that is served; its key is in KEY"
    parser.add_argument("--url", help=what)
    what = "of each load (default: 20)"
    parser.add_argument("--seconds", type=float, default=20.0, help=what)
    what = "seconds that a patient client waits (default: 10)"
    parser.add_argument("--patience", type=float, default=10.0, help=what)
    what = "that each client of a storm wants (default: 10)"
    parser.add_argument("--answers", type=int, default=10, help=what)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(overload(parse())))
