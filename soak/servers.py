"""Start the servers that are put under load, as a user starts them, and signal them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from soak.family import family
from torchscript_bundle.server import DIRECT, ROOT, Server, ServerError

READY_SECONDS = 180
STOP_SECONDS = 90
COMMAND = (sys.executable, "-m", "torchscript_bundle")


class NotServed(Exception):
    """A server did not start, or did not do what it was told; the message quotes it."""


@dataclass(frozen=True)
class Address:
    """Where a server takes requests, and the key that they need."""

    base: str
    key: str

    @property
    def headers(self) -> dict[str, str]:
        """The header of every request."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    @property
    def port(self) -> int:
        """The port on loopback."""
        return int(self.base.rpartition(":")[2])


class UnderTest(Protocol):
    """A server with its archives, logs and state in a folder of its own."""

    log_dir: Path

    @property
    def address(self) -> Address:
        """Where it takes requests now: a start may make another key."""

    async def start(self, archives: Sequence[Path]) -> None:
        """Start it with copies of archives, which may be replaced; return when it has answered."""

    async def reload(self) -> None:
        """Have it take archives that changed."""

    async def terminate(self) -> int | None:
        """Tell it to end, as a machine that shuts down does; return its exit status."""

    def processes(self) -> list[psutil.Process]:
        """Return all its processes."""

    async def end(self) -> None:
        """End what is left of it."""


class Alone:
    """TorchServe alone, as `torchscript-bundle start` starts it: one archive."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.store = folder / "store"
        self.log_dir = folder / "logs"
        self._environment = {**os.environ, **(environment or {})}
        self._server = Server(folder / "run", self.log_dir)
        self._ports = free_ports(5)
        self._key = ""

    @property
    def address(self) -> Address:
        """TorchServe's own port, and the key of this start; while there is none, of the last."""
        with contextlib.suppress(ServerError):
            self._key = self._server.token("inference")
        return Address(f"http://127.0.0.1:{self._ports[0]}", self._key)

    async def start(self, archives: Sequence[Path]) -> None:
        """Start TorchServe with the only archive."""
        [self._archive] = copy(archives, self.store)
        await self._start()

    async def reload(self) -> None:
        """Start it anew; where that fails, NotServed says why."""
        await self._start("--restart")

    async def terminate(self) -> int | None:
        """Send SIGTERM to Java, as `docker stop` does to what it started."""
        java = self._server.family[0]
        java.terminate()
        await gone(java)
        return None

    def processes(self) -> list[psutil.Process]:
        """Return Java and its workers."""
        return self._server.family

    async def end(self) -> None:
        """Stop TorchServe."""
        await asyncio.to_thread(self._server.stop)

    async def _start(self, *flags: str) -> None:
        names = ("inference", "management", "metrics", "grpc-inference", "grpc-management")
        ports = zip(names, self._ports, strict=True)
        command = [
            *(*COMMAND, "start", str(self._archive), *flags),
            *(word for name, port in ports for word in (f"--{name}-port", str(port))),
            *("--run-dir", str(self._server.run_dir), "--log-dir", str(self.log_dir)),
        ]
        done = await asyncio.to_thread(
            subprocess.run,
            command,
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise NotServed(last_line(done.stderr or done.stdout))


@dataclass(frozen=True)
class Place:
    """Where a `run` listens, and what comes before its command to run it elsewhere."""

    host: str
    port: int
    admin_port: int
    prefix: tuple[str, ...] = ()


class Fleet:
    """`torchscript-bundle run`: any number of archives behind its own front."""

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str] | None = None,
        *,
        place: Place | None = None,
        key: str = "",
    ) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.log_dir = folder / "logs"
        self.run_dir = folder / "run"
        self._environment = {**os.environ, **(environment or {})}
        port, admin_port = free_ports(2)
        self.place = place or Place("127.0.0.1", port, admin_port)
        self._key = key or secrets.token_urlsafe(24)
        self._said = folder / "run.txt"
        self._process: psutil.Popen | None = None

    @property
    def address(self) -> Address:
        """The front's port, and the fixed key."""
        return Address(f"http://{self.place.host}:{self.place.port}", self._key)

    async def start(self, archives: Sequence[Path]) -> None:
        """Start it, and wait until it calls itself ready."""
        copies = copy(archives, self.store)
        keys = self.folder / "keys.json"
        keys.touch(0o600)
        keys.write_text(json.dumps([{"name": "soak", "key": self._key, "scope": "inference"}]))
        where = self.place
        command = [
            *(*where.prefix, *COMMAND, "run", *map(str, copies), "--keys", str(keys)),
            *("--host", where.host, "--port", str(where.port)),
            *("--admin-host", where.host, "--admin-port", str(where.admin_port)),
            *("--run-dir", str(self.run_dir), "--log-dir", str(self.log_dir)),
        ]
        with self._said.open("ab") as said:
            self._process = psutil.Popen(
                command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )
        await until(self.is_ready, f"it was not ready; {self._words()}")

    def is_ready(self) -> bool:
        """Return whether /ready says so; NotServed if the process has ended."""
        if self.process.poll() is not None:
            raise NotServed(f"it ended with status {self.process.poll()}: {self._words()}")
        try:
            url = f"http://{self.place.host}:{self.place.admin_port}/ready"
            with DIRECT.open(url, timeout=10) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    async def reload(self) -> None:
        """Send SIGHUP; it goes on serving meanwhile."""
        self.process.send_signal(signal.SIGHUP)

    async def terminate(self) -> int | None:
        """Send SIGTERM, and wait for the end."""
        self.process.terminate()
        return await asyncio.to_thread(self.process.wait, STOP_SECONDS)

    def processes(self) -> list[psutil.Process]:
        """Return the supervisor and everything that it started."""
        return family(self.process, self.run_dir)

    async def end(self) -> None:
        """Tell it to end, twice if need be; then kill what is left."""
        if self._process is None:
            return
        left = self.processes()
        for _ in range(2):
            with contextlib.suppress(psutil.NoSuchProcess):
                self._process.terminate()
            with contextlib.suppress(psutil.TimeoutExpired):
                await asyncio.to_thread(self._process.wait, STOP_SECONDS / 2)
                break
        for process in psutil.wait_procs(left, timeout=5)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    @property
    def process(self) -> psutil.Popen:
        """The supervisor."""
        assert self._process is not None
        return self._process

    def _words(self) -> str:
        return last_line(self._said.read_text(errors="replace"))


KINDS: dict[str, Callable[..., Alone | Fleet]] = {"start": Alone, "run": Fleet}


def copy(archives: Sequence[Path], store: Path) -> list[Path]:
    """Copy archives into a store, each in one step, so that no half of one is ever read."""
    store.mkdir(parents=True, exist_ok=True)
    return [put(archive, store / archive.name) for archive in archives]


def put(archive: Path, target: Path) -> Path:
    """Replace a file by a copy of an archive."""
    fresh = target.with_suffix(".new")
    shutil.copyfile(archive, fresh)
    return fresh.replace(target)


@contextmanager
def own_folder() -> Iterator[Path]:
    """Make a folder for a server, short enough for sockets in it; remove it in the end."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


async def until(
    done: Callable[[], bool], otherwise: str, seconds: float = READY_SECONDS, poll: float = 0.2
) -> None:
    """Wait until something holds; NotServed if it never does."""
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(done):
        if time.monotonic() > deadline:
            raise NotServed(otherwise)
        await asyncio.sleep(poll)


async def gone(process: psutil.Process) -> None:
    """Wait for the end of a process that is not ours."""
    await until(lambda: not process.is_running(), f"process {process.pid} does not end", poll=0.02)


def last_line(text: str) -> str:
    """Return what a program said last."""
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"
