"""Ports and ends of servers, waits, and what answers are compared with."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from torchscript_bundle.server import Ports, Server

#: How long is waited for what surely comes, on a busy machine as well.
READY_SECONDS = 240
POLL_SECONDS = 0.1
#: Ports for each process of a run, below those that Linux gives to clients.
PORTS_EACH = 2000


def _ports_of_this_process() -> Iterator[int]:
    """No two processes of a run name the same; from anywhere, as other runs may be under way."""
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 15_000 + PORTS_EACH * (process % 8)
    skipped = random.SystemRandom().randrange(PORTS_EACH)
    return itertools.islice(itertools.cycle(range(first, first + PORTS_EACH)), skipped, None)


_PORTS = _ports_of_this_process()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports() -> Ports:
    """Ports that nothing listens on, and that no other test is told."""
    return Ports(*itertools.islice(filter(_is_free, _PORTS), 5))


def wait_until(done: Callable[[], bool], otherwise: str) -> None:
    """Waits for what surely comes.

    Args:
        done: whether it has come.
        otherwise: what is wrong where it never does.
    """
    deadline = time.monotonic() + READY_SECONDS
    while not done():
        assert time.monotonic() < deadline, otherwise
        time.sleep(POLL_SECONDS)


def end(server: Server) -> None:
    """Stops a server at once, for a test that is not about stopping: by itself it takes seconds."""
    for process in server.family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    server.stop()


@contextmanager
def serving(folder: Path, archive: Path, sample: object) -> Iterator[Server]:
    """A server of its own, ready and stopped at the end."""
    server = Server(folder / "run", folder / "logs")
    server.start(archive, free_ports())
    try:
        body = json.dumps(sample).encode()
        server.wait_ready(body, READY_SECONDS, content_type="application/json")
        yield server
    finally:
        end(server)


def close(found: Any, expected: Any) -> bool:
    """Equal, numbers but for rounding."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(
            close(found[key], value) for key, value in expected.items()
        )
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(close, found, expected))
    return bool(
        found == (pytest.approx(expected, abs=1e-5) if isinstance(expected, float) else expected)
    )
