"""Flags that the programs have in common, and the server that they name."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.say import say
from soak.servers import KINDS, Alone, Fleet, NotServed, own_folder


def add_server(parser: argparse.ArgumentParser) -> None:
    """Add the flag that says what is started."""
    what = "what is put under load: `run`, or TorchServe alone, as `start` starts it (default: run)"
    parser.add_argument("--server", choices=KINDS, default="run", help=what)


@asynccontextmanager
async def serving(
    kind: str, archives: Sequence[Path], environment: Mapping[str, str] | None = None
) -> AsyncIterator[Alone | Fleet]:
    """Start a server in a folder of its own; end it, and remove the folder."""
    with own_folder() as folder:
        server = KINDS[kind](folder, environment)
        try:
            say(f"start {kind} with {', '.join(each.name for each in archives)}")
            await server.start(archives)
            yield server
        finally:
            await server.end()


def main(work: Coroutine[Any, Any, bool]) -> int:
    """Run a program; return its exit status: 1 where its verdict is bad or a server failed."""
    # Ended from outside, it must not leave servers behind: an exception stops them.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("error: ended"))
    try:
        return 0 if asyncio.run(work) else 1
    except NotServed as error:
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    return 1
