"""`python -m soak.rehearsal`: three replicas behind a balancer, and what befalls a cluster.

Each replica is a `torchscript-bundle run` in a network namespace of its own; nginx is the balancer.
It needs root.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.figures import percentile
from benchmarks.say import say
from soak.answers import alike
from soak.archives import EDITIONS, VECTORS, make
from soak.balancer import Balancer, Retries
from soak.client import Ask, Outcome, connect, send
from soak.family import role
from soak.flags import main
from soak.namespaces import BALANCER, address, inside, network, plug_in, replica, unplug
from soak.servers import Fleet, NotServed, Place, own_folder, put
from torchscript_bundle.server import ROOT

REPLICAS, CONNECTIONS = 3, 16
PATIENCE = 20.0
#: Load before and after an event; and how long a replica is slow, or cut off.
AROUND_SECONDS, TROUBLE_SECONDS = 3.0, 10.0
NEW_SECONDS = 90.0
#: A slow replica runs for so long, and stands still for the rest of a half second.
RUNS_SECONDS, STANDS_SECONDS = 0.1, 0.4
KIND = {"Content-Type": "application/json"}
BODY = json.dumps({"text": "The parcel came two days late."}).encode()


@dataclass
class Seen:
    """What clients of the balancer saw during an event."""

    outcomes: list[Outcome] = field(default_factory=list)
    seconds: float = 0.0
    wrong: int = 0

    def count(self, fate: str) -> int:
        """Return how many requests met a fate."""
        return sum(each.fate == fate for each in self.outcomes)

    @property
    def not_answered(self) -> Counter[str]:
        """How requests ended that got no answer."""
        return Counter(each.cause for each in self.outcomes if each.fate != "answered")


class Cluster:
    """The replicas, their balancer, and the right answers of both editions."""

    def __init__(self, folder: Path) -> None:
        key = secrets.token_urlsafe(24)
        self.balancer = Balancer(
            folder / "nginx", [f"{address(n + 1)}:8080" for n in range(REPLICAS)]
        )
        self.replicas = [self._replica(folder / str(n), n, key) for n in range(1, REPLICAS + 1)]
        self.archives = [make(VECTORS, edition) for edition in EDITIONS]
        self.right: list[bytes] = []
        self.served = 0
        headers = {**KIND, **self.replicas[0].address.headers}
        self.ask = Ask(f"/predictions/{VECTORS.name}", BODY, headers)

    @staticmethod
    def _replica(folder: Path, number: int, key: str) -> Fleet:
        folder.mkdir()
        where = Place(address(number), 8080, 8090, inside(replica(number)))
        return Fleet(folder, place=where, key=key)

    async def start(self) -> None:
        """Start the replicas one by one; learn both editions' answers from the first."""
        first = self.replicas[0]
        for edition in reversed(range(len(EDITIONS))):
            say(f"learn the answer of edition {EDITIONS[edition]}")
            await first.start([self.archives[edition]])
            self.right.insert(0, (await self._ask(first.address.base)).body)
            if edition:
                await first.end()
        for number, each in enumerate(self.replicas[1:], 2):
            say(f"start replica {number}")
            await each.start([self.archives[0]])

    async def end(self) -> None:
        """End everything."""
        self.balancer.stop()
        await asyncio.gather(*(each.end() for each in self.replicas))

    async def update(self) -> None:
        """Give each replica the other edition in turn, without ending it."""
        self.served = 1 - self.served
        archive = self.archives[self.served]
        for each in self.replicas:
            put(archive, each.store / archive.name)
            await each.reload()
            await self._until_served(each)

    async def roll(self) -> None:
        """End each replica in turn, and start it anew, as another image would be."""
        for each in self.replicas:
            status = await each.terminate()
            if status:
                say(f"a replica ended with status {status}")
            await each.start([self.archives[self.served]])
            await self._until_served(each)

    async def kill(self) -> None:
        """Kill every process of a replica at once; start it again."""
        victim = self.replicas[0]
        for process in victim.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        await asyncio.sleep(TROUBLE_SECONDS)
        await victim.start([self.archives[self.served]])

    async def cut_off(self) -> None:
        """Pull a replica's cable for a while."""
        unplug(2)
        await asyncio.sleep(TROUBLE_SECONDS)
        plug_in(2)
        await asyncio.sleep(AROUND_SECONDS)

    async def slow_down(self) -> None:
        """Let a replica's model have a fifth of the time."""
        slow = [each for each in self.replicas[2].processes() if role(each).startswith("worker")]
        until = time.monotonic() + TROUBLE_SECONDS
        try:
            while time.monotonic() < until:
                for process in slow:
                    process.suspend()
                await asyncio.sleep(STANDS_SECONDS)
                for process in slow:
                    process.resume()
                await asyncio.sleep(RUNS_SECONDS)
        finally:
            for process in slow:
                process.resume()

    async def nothing(self) -> None:
        """Wait."""
        await asyncio.sleep(TROUBLE_SECONDS)

    async def under_load(self, event: Callable[[], Awaitable[None]]) -> Seen:
        """Let an event happen under 16 connections to the balancer."""
        seen, stop = Seen(), asyncio.Event()

        async def work() -> None:
            async with connect(1) as session:
                while not stop.is_set():
                    outcome = await send(session, self.balancer.base, self.ask, patience=PATIENCE)
                    seen.outcomes.append(outcome)
                    if outcome.fate == "answered":
                        seen.wrong += not any(alike(outcome.body, each) for each in self.right)
                    else:
                        await asyncio.sleep(0.05)

        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(work())
            await asyncio.sleep(AROUND_SECONDS)
            try:
                await event()
                await asyncio.sleep(AROUND_SECONDS)
            finally:
                stop.set()
        seen.seconds = time.monotonic() - began
        return seen

    async def _ask(self, base: str) -> Outcome:
        async with connect(1) as session:
            return await send(session, base, self.ask, patience=PATIENCE)

    async def _until_served(self, each: Fleet) -> None:
        """Wait until a replica answers as the edition does that it was given."""
        deadline = time.monotonic() + NEW_SECONDS
        while not alike((await self._ask(each.address.base)).body, self.right[self.served]):
            if time.monotonic() > deadline:
                raise NotServed(f"the new archive does not answer at {each.address.base}")
            await asyncio.sleep(0.1)


def events(cluster: Cluster) -> dict[str, tuple[Retries, Callable[[], Awaitable[None]]]]:
    """Return what befalls the cluster, and what the balancer sends again meanwhile."""
    return {
        "nothing": ("predictions", cluster.nothing),
        "rolling update of the archive": ("predictions", cluster.update),
        "rolling restart (another image)": ("predictions", cluster.roll),
        "a replica killed, started 10 s later": ("predictions", cluster.kill),
        "a replica cut off for 10 s": ("predictions", cluster.cut_off),
        "a replica slow for 10 s": ("predictions", cluster.slow_down),
        "rolling update of the archive, no retries": ("unsent", cluster.update),
        "rolling restart, no retries": ("unsent", cluster.roll),
        "a replica killed, no retries": ("unsent", cluster.kill),
        "a replica cut off, no retries": ("unsent", cluster.cut_off),
    }


def show(found: dict[str, Seen]) -> Table:
    """Return the table."""
    table = Table(title=f"{REPLICAS} replicas behind nginx, {CONNECTIONS} connections")
    table.add_column("event")
    columns = ("s", "requests", "answered", "refused", "lost", "wrong", "p50 ms", "p99 ms", "most")
    for column in columns:
        table.add_column(column, justify="right")
    table.add_column("not answered")
    for event, seen in found.items():
        took = [each.seconds * 1000 for each in seen.outcomes if each.fate == "answered"] or [0.0]
        ends = ", ".join(f"{count} x {cause}" for cause, count in seen.not_answered.items())
        table.add_row(
            event,
            f"{seen.seconds:.0f}",
            str(len(seen.outcomes)),
            *(str(seen.count(fate)) for fate in ("answered", "refused", "lost")),
            str(seen.wrong),
            *(f"{percentile(took, share):.0f}" for share in (50, 99)),
            f"{max(took):.0f}",
            ends or "-",
        )
    return table


async def rehearse() -> bool:
    """Let everything befall the cluster; good if nothing is lost where predictions are retried."""
    found: dict[str, Seen] = {}
    good = True
    with own_folder() as folder:
        cluster = Cluster(folder)
        try:
            await cluster.start()
            for event, (retries, happen) in events(cluster).items():
                cluster.balancer.start(retries)
                say(event)
                found[event] = await cluster.under_load(happen)
                ends = len(found[event].outcomes) - found[event].count("answered")
                good &= not found[event].wrong and (retries == "unsent" or not ends)
        finally:
            await cluster.end()
    Console(width=170).print(show(found))
    print(f"verdict: {'nothing was lost' if good else 'requests were LOST, or answers WRONG'}")
    return good


@contextmanager
def whole_network() -> Iterator[None]:
    """Make the network; NotServed ends the program with its sentence."""
    try:
        with network(REPLICAS):
            yield
    except NotServed as error:
        sys.exit(f"error: {error}")


def parse() -> argparse.Namespace:
    """Read the arguments."""
    parser = argparse.ArgumentParser(prog="soak.rehearsal", description=__doc__)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    if parse().inside:
        sys.exit(main(rehearse()))
    for each in EDITIONS:
        make(VECTORS, each)
    with whole_network():
        command = [*inside(BALANCER), sys.executable, "-m", "soak.rehearsal", "--inside"]
        sys.exit(subprocess.run(command, cwd=ROOT, check=False).returncode)
