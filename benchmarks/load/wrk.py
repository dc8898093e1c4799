"""Runs wrk against a server, and reads what it prints.

Source: https://github.com/wg/wrk
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).resolve().with_name("post_texts.lua")
#: wrk gives up a request after so many seconds.
TIMEOUT = 30


class LoadError(Exception):
    """There was no load, or the server did not answer all of it well."""


@dataclass(frozen=True)
class Load:
    """What one run saw.

    Attributes:
        requests: answers with status 200.
        seconds: how long it ran.
        ms: milliseconds until an answer was there: mean, p50, p90, p99, max.
    """

    requests: int
    seconds: float
    ms: dict[str, float]

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


def require_wrk() -> None:
    """Raises LoadError if wrk is not installed."""
    if shutil.which("wrk") is None:
        raise LoadError("the load comes from wrk, and it is not there: apt-get install wrk")


def run_wrk(url: str, headers: dict[str, str], texts: Path, connections: int, seconds: int) -> Load:
    """Posts the texts in turn over some connections, each of which waits for its answer.

    Args:
        url: where to.
        headers: of every request, beside the content type.
        texts: a file with a text a line.
        connections: how many are kept busy.
        seconds: for how long.

    Raises:
        LoadError: wrk failed, or some answers were not 200.
    """
    sent = {"Content-Type": "application/json", **headers}
    command = [
        *("wrk", "--threads", "1", "--connections", str(connections)),
        *("--duration", f"{seconds}s", "--timeout", f"{TIMEOUT}s", "--script", str(SCRIPT)),
        *(part for name, value in sent.items() for part in ("--header", f"{name}: {value}")),
        *(url, "--", str(texts)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LoadError(f"wrk failed: {done.stderr.strip() or done.stdout.strip()}")
    return read_output(done.stdout)


def read_output(output: str) -> Load:
    """What the script printed last.

    Raises:
        LoadError: that is not there, or says that some requests did not get a 200.
    """
    lines = output.strip().splitlines()
    try:
        found = json.loads(lines[-1])
        load = Load(found["requests"], found["seconds"], found["ms"])
        bad, lost = found["not_200"], found["lost"]
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise LoadError(f"wrk printed no result, but: {output[-500:]}") from error
    if not load.requests:
        raise LoadError(f"no answer within {load.seconds:.0f} seconds")
    if bad or lost:
        raise LoadError(
            f"of {load.requests} answers {bad} were not 200, and {lost} requests were lost"
        )
    return load
