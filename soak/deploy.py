"""`python -m soak.deploy`: requests lost while a server ends, or takes another archive.

Each is tried under 16 connections, several times: SIGTERM; an archive replaced by one with other
weights; an archive replaced by a damaged one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.table import Table

from benchmarks.figures import median
from benchmarks.say import say
from soak.answers import alike
from soak.archives import EDITIONS, VECTORS, make
from soak.client import Ask, Outcome, connect, send
from soak.flags import add_server, main, serving
from soak.servers import Alone, Fleet, NotServed, put

CONNECTIONS = 16
#: A request without an answer after so many seconds is lost.
PATIENCE = 30.0
#: Load before and after what is tried.
AROUND_SECONDS = 2.0
#: A client that was refused, or found nobody, tries again after so long.
AGAIN_SECONDS = 0.05
#: Within which a new archive must answer, and a damaged one be found out.
NEW_SECONDS, DAMAGED_SECONDS = 90.0, 8.0
ASK = Ask(
    f"/predictions/{VECTORS.name}",
    json.dumps({"text": "The parcel came two days late."}).encode(),
    {"Content-Type": "application/json"},
)


@dataclass
class Trial:
    """What clients saw of one event.

    Attributes:
        outcomes: of all requests.
        seconds: from the event to what it was for: the end, or the new archive's first answer.
        problem: what did not happen.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    seconds: float = 0.0
    problem: str = ""

    def count(self, fate: str) -> int:
        """Return how many requests met a fate."""
        return sum(each.fate == fate for each in self.outcomes)

    @property
    def gap(self) -> float:
        """The longest time between two answers, whoever got them."""
        ends = sorted(each.ended for each in self.outcomes if each.fate == "answered")
        return max((after - before for before, after in pairwise(ends)), default=0.0)

    @property
    def lost(self) -> Counter[str]:
        """How requests were lost."""
        return Counter(each.cause for each in self.outcomes if each.fate == "lost")


@asynccontextmanager
async def load(server: Alone | Fleet, trial: Trial) -> AsyncIterator[None]:
    """Keep 16 connections busy before, during and after; who finds nobody tries again."""
    stop = asyncio.Event()

    async def work(session: aiohttp.ClientSession) -> None:
        while not stop.is_set():
            outcome = await ask(session, server)
            trial.outcomes.append(outcome)
            if outcome.fate in ("refused", "unconnected"):
                await asyncio.sleep(AGAIN_SECONDS)

    async with connect(CONNECTIONS) as session, asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(work(session))
        await asyncio.sleep(AROUND_SECONDS)
        try:
            yield
            await asyncio.sleep(AROUND_SECONDS)
        finally:
            stop.set()


async def ask(session: aiohttp.ClientSession, server: Alone | Fleet) -> Outcome:
    """Send the request, with the key of the moment."""
    address = server.address
    asked = replace(ASK, headers={**ASK.headers, **address.headers})
    return await send(session, address.base, asked, patience=PATIENCE)


async def end_it(server: Alone | Fleet, trial: Trial) -> None:
    """Send SIGTERM; start again after the trial."""
    status = await server.terminate()
    if status:
        trial.problem = f"exit status {status}"


@dataclass
class Archives:
    """Both editions of the archive, which of them is served, and what that answers."""

    paths: Sequence[Path]
    served: int = 0
    answer: bytes = b""

    async def swap(self, server: Alone | Fleet, trial: Trial) -> None:
        """Replace the archive by the other edition; wait for another answer."""
        self.served = 1 - self.served
        put(self.paths[self.served], server.store / self.paths[self.served].name)
        await server.reload()
        async with connect(1) as session:
            deadline = time.monotonic() + NEW_SECONDS
            while time.monotonic() < deadline:
                outcome = await ask(session, server)
                if outcome.status == 200 and not alike(outcome.body, self.answer):
                    self.answer = outcome.body
                    return
                await asyncio.sleep(AGAIN_SECONDS)
        trial.problem = "the new archive does not answer"

    async def damage(self, server: Alone | Fleet, trial: Trial) -> None:
        """Replace the archive by a damaged one; the old one must go on answering."""
        target = server.store / self.paths[self.served].name
        whole = target.read_bytes()
        target.with_suffix(".new").write_bytes(whole[: len(whole) // 2])
        target.with_suffix(".new").replace(target)
        try:
            await server.reload()
            await asyncio.sleep(DAMAGED_SECONDS)
        except NotServed as error:
            trial.problem = str(error)[:60]
        async with connect(1) as session:
            outcome = await ask(session, server)
        if not alike(outcome.body, self.answer):
            trial.problem = f"the old archive does not answer any more ({outcome.cause})"
        put(self.paths[self.served], target)


Event = Callable[[Alone | Fleet, Trial], Awaitable[None]]


async def try_it(server: Alone | Fleet, event: str, archives: Archives) -> Trial:
    """Try an event under load."""
    happen: dict[str, Event] = {
        "SIGTERM": end_it,
        "a new archive": archives.swap,
        "a damaged archive": archives.damage,
    }
    trial = Trial()
    async with load(server, trial):
        began = time.monotonic()
        await happen[event](server, trial)
        trial.seconds = time.monotonic() - began
    return trial


async def repeat(kind: str, event: str, archives: Archives, times: int) -> list[Trial]:
    """Try an event so many times, with the same server as long as it lives."""
    seen: list[Trial] = []
    while len(seen) < times:
        async with serving(kind, [archives.paths[0]]) as server:
            archives.served, archives.answer = 0, await learn(server)
            alive = True
            while alive and len(seen) < times:
                trial = await try_it(server, event, archives)
                seen.append(trial)
                say(f"{event}: {trial.count('lost')} lost, {trial.seconds:.1f} s {trial.problem}")
                alive = event != "SIGTERM" and not trial.problem
    return seen


async def learn(server: Alone | Fleet) -> bytes:
    """Return the answer of a quiet server."""
    async with connect(1) as session:
        outcome = await ask(session, server)
    if outcome.status != 200:
        raise NotServed(f"the request got {outcome.cause}: {outcome.body!r}")
    return outcome.body


def show(kind: str, trials: dict[str, list[Trial]]) -> Table:
    """Return the table of all trials."""
    table = Table(title=f"Requests lost under {CONNECTIONS} connections: {kind}")
    table.add_column("event")
    columns = ("times", "requests", "answered", "refused", "unconnected", "lost", "most lost")
    for column in (*columns, "s, median", "s, most", "longest gap s"):
        table.add_column(column, justify="right")
    table.add_column("how lost")
    table.add_column("what did not happen")
    for event, seen in trials.items():
        lost = sum((trial.lost for trial in seen), Counter[str]())
        problems = Counter(trial.problem for trial in seen if trial.problem)
        fates = ("answered", "refused", "unconnected", "lost")
        table.add_row(
            event,
            str(len(seen)),
            str(sum(len(trial.outcomes) for trial in seen)),
            *(str(sum(trial.count(fate) for trial in seen)) for fate in fates),
            str(max(trial.count("lost") for trial in seen)),
            f"{median(trial.seconds for trial in seen):.1f}",
            f"{max(trial.seconds for trial in seen):.1f}",
            f"{max(trial.gap for trial in seen):.2f}",
            ", ".join(f"{count} x {cause}" for cause, count in lost.items()) or "-",
            ", ".join(f"{count} x {what}" for what, count in problems.items()) or "-",
        )
    return table


async def deploy(arguments: argparse.Namespace) -> bool:
    """Try every event, in turns; return whether nothing was lost and all happened."""
    archives = Archives([make(VECTORS, edition) for edition in EDITIONS])
    trials = {
        event: await repeat(arguments.server, event, archives, arguments.times)
        for event in arguments.events
    }
    Console(width=190).print(show(arguments.server, trials))
    every = [trial for seen in trials.values() for trial in seen]
    good = not any(trial.count("lost") or trial.problem for trial in every)
    print(f"verdict: {'nothing was lost' if good else 'requests were LOST, or it failed'}")
    return good


EVENTS = ("SIGTERM", "a new archive", "a damaged archive")


def parse() -> argparse.Namespace:
    """Read the arguments."""
    parser = argparse.ArgumentParser(prog="soak.deploy", description=__doc__)
    add_server(parser)
    parser.add_argument("--times", type=int, default=10, help="of each event (default: 10)")
    parser.add_argument("--events", nargs="+", choices=EVENTS, default=EVENTS, metavar="EVENT")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(deploy(parse())))
