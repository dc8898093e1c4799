"""Clients of the soak: busy ones, slow ones, and ones that leave."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp

from soak.client import Ask, Outcome, connect, send
from soak.editions import Answers, Served, is_right
from soak.kinds import Kind, Mix
from soak.servers import UnderTest

BUSY, SLOW, LEAVING = 16, 2, 2
#: Seconds until an answer that does not come is lost; of a slow client's body; of one that leaves.
PATIENCE, SLOW_SECONDS, LEAVING_SECONDS = 60.0, 2.0, 0.05
PIECES = 5
#: Longest wait of a client that was refused, whatever `Retry-After` says.
MOST_WAIT = 1.0
#: Wrong answers and lost requests that are kept to be shown.
KEPT = 20


@dataclass
class Seen:
    """What clients saw.

    Attributes:
        ends: times by client, status or problem.
        took: seconds of right answers.
        lost: requests without an answer, with their model.
        wrong: answers that are not the right ones, with their kind.
        right: right answers by kind.
        refused: by status.
        left: requests whose client left.
    """

    ends: Counter[str] = field(default_factory=Counter)
    took: list[float] = field(default_factory=list)
    lost: list[tuple[str, Outcome]] = field(default_factory=list)
    wrong: list[tuple[Kind, Outcome]] = field(default_factory=list)
    right: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    left: int = 0

    @property
    def sent(self) -> int:
        """All requests but those whose client left."""
        return sum(self.ends.values())


@dataclass
class Traffic:
    """All clients of a server, and what is right at any moment."""

    server: UnderTest
    answers: Answers
    served: dict[str, Served] = field(default_factory=lambda: defaultdict(Served))
    seen: Seen = field(default_factory=Seen)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Send requests until told to stop."""
        async with connect(BUSY) as session, asyncio.TaskGroup() as group:
            for number in range(BUSY):
                group.create_task(self._busy(session, Mix(number)))
            for number in range(SLOW):
                group.create_task(self._slow(Mix(100 + number)))
            for number in range(LEAVING):
                group.create_task(self._leaving(Mix(200 + number)))

    async def _busy(self, session: aiohttp.ClientSession, mix: Mix) -> None:
        while not self.stop.is_set():
            kind = mix.draw()
            outcome = await send(session, self._base, self._asked(kind), patience=PATIENCE)
            self._judge(kind, outcome)
            if outcome.fate == "refused":
                await asyncio.sleep(min(MOST_WAIT, float(outcome.retry_after or 0)))
            elif outcome.fate != "answered":
                await asyncio.sleep(0.05)

    async def _slow(self, mix: Mix) -> None:
        """Send bodies bit by bit, with their length or chunked, in turn."""
        async with connect(1) as session:
            chunked = False
            while not self.stop.is_set():
                kind = mix.draw()
                asked = self._asked(kind)
                chunked = not chunked
                if not chunked:
                    length = {"Content-Length": str(len(asked.body))}
                    asked = Ask(asked.path, asked.body, {**asked.headers, **length}, asked.method)
                pieces = _bit_by_bit(asked.body)
                outcome = await send(session, self._base, asked, patience=PATIENCE, pieces=pieces)
                # A refusal may come before the body is sent, which breaks the sending.
                if kind.status == 200 or outcome.status is not None:
                    self._judge(kind, outcome, slow=True)
                await asyncio.sleep(random.random())

    async def _leaving(self, mix: Mix) -> None:
        """Send requests, and leave before the answer."""
        while not self.stop.is_set():
            async with connect(1) as session:
                patience = random.uniform(0.001, LEAVING_SECONDS)
                await send(session, self._base, self._asked(mix.draw()), patience=patience)
                self.seen.left += 1
            await asyncio.sleep(0.2)

    @property
    def _base(self) -> str:
        return self.server.address.base

    def _asked(self, kind: Kind) -> Ask:
        return kind.asked(self.server.address.headers)

    def _judge(self, kind: Kind, outcome: Outcome, *, slow: bool = False) -> None:
        """Compare an outcome with the right answer, and note it."""
        seen = self.seen
        seen.ends[outcome.cause] += 1
        if outcome.fate == "refused":
            seen.refused[outcome.cause] += 1
        elif outcome.fate != "answered":
            seen.lost.append((kind.model, outcome))
        elif is_right(kind, outcome, self.served.get(kind.model), self.answers):
            seen.right[kind.name] += 1
            if not slow:
                seen.took.append(outcome.seconds)
        else:
            seen.wrong.append((kind, outcome))


async def _bit_by_bit(body: bytes) -> AsyncIterator[bytes]:
    size = max(1, -(-len(body) // PIECES))
    for at in range(0, len(body), size):
        yield body[at : at + size]
        await asyncio.sleep(SLOW_SECONDS / PIECES)
