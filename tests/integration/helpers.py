"""What answers of a server are compared with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from torchscript_bundle.server import Ports, Server


@contextmanager
def serving(folder: Path, archive: Path, sample: object) -> Iterator[Server]:
    """A server of its own, ready and stopped at the end."""
    server = Server(folder / "run", folder / "logs")
    server.start(archive, Ports.free())
    try:
        body = json.dumps(sample).encode()
        server.wait_ready(body, 120, content_type="application/json")
        yield server
    finally:
        server.stop()


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
