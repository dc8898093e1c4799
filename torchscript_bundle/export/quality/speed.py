"""Measure workers at each precision, on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence

from torchscript_bundle.export.quality.rehearsal import Rehearsal, Request
from torchscript_bundle.export.quality.texts import spread
from torchscript_bundle.serving.artifact import FLOAT32

#: Most calls to time, and how often to time each.
CALLS = 8
ROUNDS = 7
#: After so many seconds no round begins but the first three.
LONGEST = 30.0
#: Largest time, relative to float32, that is worth a precision's rounding.
WORTHWHILE = 0.95


def measure(
    workers: Mapping[str, Rehearsal], calls: Sequence[Sequence[Request]]
) -> dict[str, float]:
    """Return milliseconds per request: medians over rounds, the precisions timed in turn."""
    timed = [calls[at] for at in spread(len(calls), CALLS)]
    times: dict[str, list[list[float]]] = {name: [[] for _ in timed] for name in workers}
    started = time.perf_counter()
    for done in range(ROUNDS):
        if done >= 3 and time.perf_counter() - started > LONGEST:
            break
        for at, call in enumerate(timed):
            for name, worker in workers.items():
                times[name][at].append(worker.seconds(call))
    requests = sum(map(len, timed))
    return {
        name: 1e3 * sum(map(statistics.median, found)) / requests for name, found in times.items()
    }


def fastest(times: Mapping[str, float]) -> str:
    """Return the fastest precision; float32 where no other is worthwhile."""
    best = min(times, key=times.__getitem__)
    return best if times[best] <= WORTHWHILE * times[FLOAT32] else FLOAT32
