"""Kill workers and Javas of a server, and replace its archives, by a timetable."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil

from benchmarks.say import say
from soak.answers import alike
from soak.archives import EDITIONS, MODELS, make
from soak.client import connect, send
from soak.editions import Served
from soak.family import role
from soak.kinds import kinds
from soak.losses import Kill
from soak.servers import Fleet, put
from soak.traffic import Traffic

#: Within which a new archive must answer, and a killed process be there again.
NEW_SECONDS, BACK_SECONDS = 120.0, 60.0


@dataclass(frozen=True)
class Timetable:
    """Seconds between kills of a worker, of Java, and new archives."""

    worker: float = 30.0
    java: float = 120.0
    archive: float = 180.0

    def events(self) -> Iterator[tuple[float, str]]:
        """Yield what happens when; where two meet, the rarer comes first."""
        due = {"archive": self.archive, "java": self.java, "worker": self.worker}
        every = dict(due)
        while True:
            what = min(due, key=lambda name: due[name])
            yield due[what], what
            due[what] += every[what]


@dataclass
class Disturbed:
    """What was done: kills, swaps with the seconds of each, and what did not happen."""

    kills: list[Kill] = field(default_factory=list)
    swaps: list[float] = field(default_factory=list)
    back: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Disturber:
    """Does to a server what the timetable says, to each model in turn, one thing at a time."""

    def __init__(self, server: Fleet, traffic: Traffic, done: Disturbed) -> None:
        self._server = server
        self._traffic = traffic
        self._done = done
        self._turns = {what: itertools.cycle(MODELS) for what in ("worker", "java", "archive")}
        self._edition = {model.name: EDITIONS[0] for model in MODELS}

    async def run(self, timetable: Timetable, seconds: float) -> None:
        """Follow the timetable until the time is over."""
        began = time.monotonic()
        for at, what in timetable.events():
            if at >= seconds:
                return
            await asyncio.sleep(began + at - time.monotonic())
            model = next(self._turns[what]).name
            if what == "archive":
                await self._swap(model)
            else:
                await self._kill("worker" if what == "worker" else "java", model)

    async def _kill(self, what: Literal["worker", "java"], model: str) -> None:
        """Kill a process, and wait for another in its place."""
        victims = await asyncio.to_thread(self._found, f"{what} {model}")
        if not victims:
            self._done.problems.append(f"there was no {what} of {model} to kill")
            return
        began = time.monotonic()
        victims[0].kill()
        killed = Kill(what, model, began, time.monotonic())
        self._done.kills.append(killed)
        while not await self._answers(model, None):
            if time.monotonic() > began + BACK_SECONDS:
                self._done.problems.append(f"{model} did not answer after the kill of its {what}")
                return
            await asyncio.sleep(0.1)
        self._done.back.append(time.monotonic() - began)
        say(f"killed the {what} of {model}; it answered after {self._done.back[-1]:.1f} s")

    async def _swap(self, model: str) -> None:
        """Replace an archive by its other edition, and wait until that answers."""
        served = self._traffic.served[model]
        before = self._edition[model]
        after = EDITIONS[1 - EDITIONS.index(before)]
        archive = self._archive(model, after)
        began = time.monotonic()
        served.begin(after, began)
        put(archive, self._server.store / archive.name)
        await self._server.reload()
        while not await self._answers(model, after):
            if time.monotonic() > began + NEW_SECONDS:
                self._done.problems.append(f"the new archive of {model} does not answer")
                return
            await asyncio.sleep(0.1)
        served.finish(before, time.monotonic())
        self._edition[model] = after
        self._done.swaps.append(time.monotonic() - began)
        say(f"a new archive of {model} answered after {self._done.swaps[-1]:.1f} s")

    async def _answers(self, model: str, edition: str | None) -> bool:
        """Return whether a model answers, with an edition's answer where one is named."""
        [kind] = [each for each in kinds() if each.name == f"{model}: list"]
        address = self._server.address
        async with connect(1) as session:
            outcome = await send(session, address.base, kind.asked(address.headers), patience=10)
        if edition is None:
            return outcome.status == 200
        return alike(outcome.body, self._traffic.answers[edition, kind.name])

    def _found(self, wanted: str) -> list[psutil.Process]:
        found = []
        for process in self._server.processes():
            with contextlib.suppress(psutil.Error):
                if role(process) == wanted:
                    found.append(process)
        return found

    def _archive(self, model: str, edition: str) -> Path:
        [known] = [each for each in MODELS if each.name == model]
        return make(known, edition)


def serving_first(traffic: Traffic) -> None:
    """Note that the first edition of every model is served from now on."""
    for model in MODELS:
        served = Served()
        served.begin(EDITIONS[0], time.monotonic())
        traffic.served[model.name] = served
