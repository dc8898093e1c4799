"""`python -m soak [--minutes 5]`: docs/soak.md."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time

import psutil
from rich.console import Console

from benchmarks.say import say
from soak.archives import EDITIONS, MODELS, make
from soak.attacks.leaks import log_bytes
from soak.disturb import Disturber, Timetable, serving_first
from soak.editions import learn
from soak.family import role
from soak.flags import main, serving
from soak.memory import watch
from soak.report import Report
from soak.servers import Fleet
from soak.traffic import Traffic

TOLD_SECONDS = 60.0


async def soak(seconds: float, timetable: Timetable) -> Report:
    """Put `run` under load, disturb it by a timetable, and report."""
    answers = await learn()
    report = Report()
    archives = [make(model, EDITIONS[0]) for model in MODELS]
    async with serving("run", archives) as server:
        assert isinstance(server, Fleet)
        traffic = Traffic(server, answers, seen=report.seen)
        serving_first(traffic)
        before = log_bytes(server.log_dir)
        began = time.monotonic()
        await _disturb(server, traffic, report, timetable, seconds)
        report.seconds = time.monotonic() - began
        report.log_bytes = before, log_bytes(server.log_dir)
        await _end(server, report)
    return report


async def _disturb(
    server: Fleet, traffic: Traffic, report: Report, timetable: Timetable, seconds: float
) -> None:
    """Run clients, disturber and watches side by side until the time is over."""
    stop = traffic.stop
    async with asyncio.TaskGroup() as group:
        group.create_task(traffic.run())
        group.create_task(watch(server, report.memory, stop))
        group.create_task(_tell(traffic))
        try:
            began = time.monotonic()
            await Disturber(server, traffic, report.disturbed).run(timetable, seconds)
            await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
        finally:
            stop.set()


async def _tell(traffic: Traffic) -> None:
    """Say every minute how it goes."""
    seen = traffic.seen
    while not traffic.stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(traffic.stop.wait(), TOLD_SECONDS)
        say(f"{seen.sent} sent, {len(seen.lost)} lost, {len(seen.wrong)} wrong")


async def _end(server: Fleet, report: Report) -> None:
    """Send SIGTERM, and look what is left."""
    family = server.processes()
    began = time.monotonic()
    try:
        report.end_status = await server.terminate()
    except psutil.TimeoutExpired:
        report.disturbed.problems.append("the server did not end after SIGTERM")
    report.end_seconds = time.monotonic() - began
    left = psutil.wait_procs(family, timeout=2)[1]
    report.left_over = [name for name in map(role, left) if name]


async def soak_and_show(arguments: argparse.Namespace) -> bool:
    """Soak, and print the report."""
    report = await soak(arguments.minutes * 60, Timetable())
    report.show(Console(width=120))
    return not report.faults()


def parse() -> argparse.Namespace:
    """Read the arguments."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="default: 5")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(soak_and_show(parse())))
