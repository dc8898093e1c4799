"""Right answers of each edition of each model, and which of them are right at what time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.say import say
from soak.answers import alike
from soak.archives import EDITIONS, MODELS, make
from soak.client import Outcome, connect, send
from soak.flags import serving
from soak.kinds import Kind, kinds
from soak.servers import NotServed, UnderTest

#: (edition, name of the kind) -> body of the right answer.
Answers = Mapping[tuple[str, str], bytes]


async def learn() -> Answers:
    """Ask a quiet server of each edition everything, one request at a time."""
    found: dict[tuple[str, str], bytes] = {}
    for edition in EDITIONS:
        async with serving("run", [make(model, edition) for model in MODELS]) as server:
            say(f"learn the right answers of edition {edition}")
            found.update(await _learn(server, edition))
    same = [
        kind.name
        for kind in kinds()
        if kind.status == 200
        and not kind.name.endswith("tokenize")
        and alike(found["one", kind.name], found["two", kind.name])
    ]
    # A label alone may be the same by chance.
    if len(same) > 2:
        raise NotServed(f"both editions give the same answers to {', '.join(same)}")
    return found


async def _learn(server: UnderTest, edition: str) -> dict[tuple[str, str], bytes]:
    found = {}
    async with connect(1) as session:
        for kind in kinds():
            address = server.address
            outcome = await send(session, address.base, kind.asked(address.headers), patience=60)
            if outcome.status != kind.status:
                raise NotServed(
                    f"{kind.name} got {outcome.cause}, not {kind.status}: {outcome.body[:300]!r}"
                )
            found[edition, kind.name] = outcome.body
    return found


@dataclass
class Served:
    """Which edition of a model is served when: spans of (from, until), by `time.monotonic`."""

    spans: dict[str, list[list[float]]] = field(default_factory=dict)

    def begin(self, edition: str, at: float) -> None:
        """Note that an edition may answer from now on."""
        self.spans.setdefault(edition, []).append([at, math.inf])

    def finish(self, edition: str, at: float) -> None:
        """Note that requests which are sent from now on must not get its answers."""
        self.spans[edition][-1][1] = at

    def during(self, sent: float, ended: float) -> list[str]:
        """Return the editions that may have answered a request."""
        return [
            edition
            for edition, spans in self.spans.items()
            if any(begin <= ended and sent <= end for begin, end in spans)
        ]


def is_right(kind: Kind, outcome: Outcome, served: Served | None, answers: Answers) -> bool:
    """Return whether an answer has the right status, and is that of an edition served then."""
    if outcome.status != kind.status:
        return False
    editions = EDITIONS if served is None else served.during(outcome.sent, outcome.ended)
    return any(alike(outcome.body, answers[edition, kind.name]) for edition in editions)
