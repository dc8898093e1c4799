"""HTTP throughput and latency of every engine, at some numbers of connections.

All servers run from the start to the end, each with its workers and threads as it plans them; while
one is measured, the others' processes are stopped. Engines take turns in each round, so that what
else happens on the machine meets all of them.
"""

from __future__ import annotations

import contextlib
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from benchmarks.client import post_in_turn
from benchmarks.engines.base import Endpoint
from benchmarks.figures import median
from benchmarks.limit import measure_limits
from benchmarks.load.wrk import Load, run_wrk
from benchmarks.say import say
from benchmarks.texts import FILE, load_texts
from torchscript_bundle.server import DIRECT

T = TypeVar("T")

#: Connections, and the seconds that each is measured for in a round.
SECONDS = {1: 5, 4: 6, 16: 10}
#: Requests, beside one for each connection, that wake a server before it is measured.
WAKING = 4
#: Workers' counters of tokens: those that were computed, and the part that was padding.
COMPUTED, PADDING = "ComputedTokens", "PaddingTokens"


@dataclass(frozen=True)
class Seen:
    """One engine at one number of connections in one round.

    Attributes:
        load: what wrk saw.
        computed: tokens that the worker computed meanwhile; None where it does not count them.
        padding: those of them that were padding.
    """

    load: Load
    computed: float | None
    padding: float | None


def measure(
    endpoints: Mapping[str, Endpoint], rounds: int, seconds: Mapping[int, int]
) -> dict[str, Any]:
    """Engine -> connections -> figures; and the machine's limits, between the rounds."""
    seen: dict[str, dict[int, list[Seen]]] = {n: {c: [] for c in seconds} for n in endpoints}
    limits: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        for endpoint in endpoints.values():
            endpoint.pause()
            stack.callback(endpoint.resume)
        for number in range(rounds):
            for connections, duration in seconds.items():
                say(f"round {number + 1} of {rounds}, {connections} connection(s)")
                for name, endpoint in rotated(endpoints, number):
                    seen[name][connections].append(_load(endpoint, connections, duration))
            for precision, rate in measure_limits().items():
                limits.setdefault(precision, []).append(rate)
    return {
        "engines": {
            name: {str(count): summarize(rounds) for count, rounds in counts.items()}
            for name, counts in seen.items()
        },
        "limits": {precision: median(rates) for precision, rates in limits.items()},
    }


def rotated(engines: Mapping[str, T], number: int) -> list[tuple[str, T]]:
    """The engines with another first one in each round."""
    order = list(engines.items())
    at = number % len(order)
    return order[at:] + order[:at]


def summarize(rounds: list[Seen]) -> dict[str, Any]:
    """Medians over the rounds; shares of padding are over all of them."""
    figures: dict[str, Any] = {
        "requests_per_second": median(each.load.rate for each in rounds),
        "rounds": [each.load.rate for each in rounds],
        "ms": {key: median(each.load.ms[key] for each in rounds) for key in rounds[0].load.ms},
        "rounds_p50": [each.load.ms["p50"] for each in rounds],
    }
    computed = [each.computed for each in rounds if each.computed]
    padding = [each.padding for each in rounds if each.padding is not None]
    if len(computed) == len(padding) == len(rounds):
        figures["padding"] = sum(padding) / sum(computed)
    return figures


def _load(endpoint: Endpoint, connections: int, seconds: int) -> Seen:
    endpoint.resume()
    try:
        # What was paused wakes, and answers what an earlier load has left in its queue.
        post_in_turn(endpoint, load_texts()[: connections + WAKING], connections)
        before = read_counters(endpoint)
        load = run_wrk(endpoint.url, endpoint.headers, FILE, connections, seconds)
        after = read_counters(endpoint)
    finally:
        endpoint.pause()
    grown = {name: after[name] - before.get(name, 0.0) for name in after}
    return Seen(load, grown.get(COMPUTED), grown.get(PADDING))


def read_counters(endpoint: Endpoint) -> dict[str, float]:
    """The worker's counters of tokens, as far as it has them."""
    if endpoint.metrics is None:
        return {}
    with DIRECT.open(urllib.request.Request(endpoint.metrics), timeout=30) as response:
        return parse_counters(response.read().decode())


def parse_counters(text: str) -> dict[str, float]:
    """Sums of the counters of tokens in Prometheus' form."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        name = line.partition("{")[0]
        if name in (COMPUTED, PADDING):
            found[name] = found.get(name, 0.0) + float(line.split()[-1])
    return found
