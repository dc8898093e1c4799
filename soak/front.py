"""`python -m soak.front`: what the front of `run` adds to TorchServe alone, in one run.

One archive is served both ways, each by a TorchServe of its own, and asked in turns; the load is
wrk's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.figures import median
from benchmarks.load.wrk import Load, require_wrk, run_wrk
from benchmarks.say import say
from soak.archives import EDITIONS, VECTORS, make
from soak.flags import main, serving
from soak.servers import Address
from soak.texts import texts

CONNECTIONS = (1, 16)
#: The front may add so much at one connection (milliseconds).
MOST_MS = 0.5
WORDS = 12


@dataclass(frozen=True)
class Way:
    """A way to the same TorchServe."""

    name: str
    address: Address

    def load(self, file: Path, connections: int, seconds: int) -> Load:
        """Send texts from a file for some seconds."""
        url = f"{self.address.base}/predictions/{VECTORS.name}"
        return run_wrk(url, self.address.headers, file, connections, seconds)


async def front(arguments: argparse.Namespace) -> bool:
    """Measure both ways, and print the table."""
    require_wrk()
    loads: dict[tuple[str, int], list[Load]] = defaultdict(list)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(texts(256, WORDS)))
        file.flush()
        archives = [make(VECTORS, EDITIONS[0])]
        async with serving("start", archives) as alone, serving("run", archives) as fleet:
            ways = [Way("TorchServe alone", alone.address), Way("run", fleet.address)]
            for way in ways:
                way.load(Path(file.name), CONNECTIONS[-1], arguments.seconds)  # warms up
            for number in range(arguments.rounds):
                for connections in CONNECTIONS:
                    for way in ways if number % 2 else reversed(ways):
                        load = way.load(Path(file.name), connections, arguments.seconds)
                        loads[way.name, connections].append(load)
                say(f"round {number + 1} of {arguments.rounds}")
    table, added = show(loads)
    Console(width=120).print(table)
    good = added[1] < MOST_MS
    print(f"verdict: the front adds {added[1]:.2f} ms at 1 connection, {added[16]:.2f} ms at 16")
    return good


def show(loads: dict[tuple[str, int], list[Load]]) -> tuple[Table, dict[int, float]]:
    """Return the table, and the milliseconds that the front adds by connections.

    What is added is the median over rounds of the difference within a round.
    """
    table = Table(title="One archive, by TorchServe alone and behind the front (medians)")
    table.add_column("connections", justify="right")
    table.add_column("way")
    for column in ("requests a second", "p50 ms", "p99 ms", "added p50 ms", "rate kept"):
        table.add_column(column, justify="right")
    added = {}
    for connections in CONNECTIONS:
        alone, through = loads["TorchServe alone", connections], loads["run", connections]
        pairs = list(zip(alone, through, strict=True))
        added[connections] = median(b.ms["p50"] - a.ms["p50"] for a, b in pairs)
        kept = median(b.rate / a.rate for a, b in pairs)
        for name, seen in (("TorchServe alone", alone), ("run", through)):
            own = name == "run"
            table.add_row(
                str(connections),
                name,
                f"{median(each.rate for each in seen):.0f}",
                *(f"{median(each.ms[at] for each in seen):.2f}" for at in ("p50", "p99")),
                f"{added[connections]:+.2f}" if own else "",
                f"{kept:.0%}" if own else "",
            )
    return table, added


def parse() -> argparse.Namespace:
    """Read the arguments."""
    parser = argparse.ArgumentParser(prog="soak.front", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="default: 7")
    parser.add_argument("--seconds", type=int, default=3, help="of each load (default: 3)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(front(parse())))
