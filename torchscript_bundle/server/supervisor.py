"""Start one TorchServe that serves one archive, wait until it answers, and stop it."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import psutil

from torchscript_bundle.disk import check_writable, writing
from torchscript_bundle.server import launching, processes
from torchscript_bundle.server.advice import command
from torchscript_bundle.server.archives import NO_DEMANDS, Demands
from torchscript_bundle.server.client import Answer, Client
from torchscript_bundle.server.logs import TRACEBACK, Logs, tail, worker_error
from torchscript_bundle.server.machine import usable_cores
from torchscript_bundle.server.state import KEYS, SETTINGS, STATE, Ports, ServerError

POLL_SECONDS = 0.2
TOLD_EVERY_SECONDS = 5.0
STOP_SECONDS = 30.0
#: TorchServe writes its keys first and restricts the file to its owner after that.
OWNER_ONLY = 0o700
#: First requests took up to 2.7 times as long as later ones.
WARM_UP_REQUESTS, WARM_UP_SECONDS = 10, 0.5
#: Most polls for the rest of a traceback, whose lines are logged one by one.
ERROR_POLLS = 20


class Server(Client):
    """One TorchServe that serves one archive, with its keys and state in `run_dir`."""

    def __init__(self, run_dir: Path, log_dir: Path) -> None:
        super().__init__(run_dir)
        self.log_dir = log_dir.resolve()
        self._logs = Logs(self.log_dir)

    def start(
        self,
        archive: Path,
        ports: Ports,
        *,
        workers: int | None = None,
        cores: int | None = None,
        socket: Path | None = None,
        restart: bool = False,
        python: str = sys.executable,
        demands: Demands = NO_DEMANDS,
    ) -> None:
        """Start TorchServe with one archive and return at once; see `wait_ready`.

        `workers` are by default one per GPU, or what the archive is optimized for; their threads
        fill `cores`, by default all. `socket` is a unix socket to take requests on instead of the
        inference port. `restart` stops this server first, once the archive was checked whole and a
        start seems possible. `python` is the interpreter of an environment with TorchServe.
        """
        running = self.running
        ports.check_free(own=asdict(self.state.ports).values() if running else ())
        if running and not restart:
            raise ServerError(f"already running; {command('stop')} stops it")
        self._check_places()
        temp = launching.make_temporary()
        try:
            asked = launching.Asked(
                ports, workers, cores or usable_cores(), socket, python, demands
            )
            state = launching.plan(archive.resolve(), asked, temp)
            self.stop()  # also clears what a killed server has left
            state = replace(state, log_start=self._logs.worker_log_size())
            with self._writing_here():
                launching.prepare(self.run_dir, state)
            launching.launch(self.run_dir, state, self.log_dir)
        except BaseException:
            if self._recorded_temp() == temp:
                self.stop()
            shutil.rmtree(temp, ignore_errors=True)
            raise

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Keep out other starts in this run directory; ServerError if one is under way."""
        with self._writing_here():
            check_writable(self.run_dir, OWNER_ONLY)
            file = (self.run_dir / "start.lock").open("a+b", buffering=0)
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                holder = file.read().decode() or "unknown"
                raise ServerError(
                    f"another start is under way (process {holder}); wait until it is done, or end "
                    "that process"
                ) from error
            with self._writing_here():
                file.truncate(0)
                file.write(str(os.getpid()).encode())
            yield

    def _check_places(self) -> None:
        with self._writing_here():
            check_writable(self.run_dir, OWNER_ONLY)
        if self.run_dir.stat().st_mode & ~OWNER_ONLY & 0o777:
            raise ServerError(
                f"{self.run_dir} is open to other users, who could read its keys or put code there "
                f"that runs; `chmod 700 {self.run_dir}`, or give another folder with --run-dir"
            )
        with writing(self.log_dir, "give another folder with --log-dir", ServerError):
            check_writable(self.log_dir)

    def _writing_here(self) -> AbstractContextManager[None]:
        return writing(self.run_dir, "give another folder with --run-dir", ServerError)

    def wait_ready(
        self,
        sample: bytes,
        timeout: float,
        say: Callable[[str], None] = lambda _: None,
        *,
        content_type: str = "text/plain",
    ) -> Answer:
        """Wait until a worker has answered a sample request, and return the answer.

        Every few seconds `say` is told the reason for waiting. ServerError: the worker failed (with
        its own error), the answer was an error, or `timeout` seconds passed. The server is left
        running for a look at its logs.
        """
        started = told = time.monotonic()
        while time.monotonic() - started < timeout:
            failure = self._failure()
            if failure:
                raise ServerError(failure)
            if self._worker_ready():
                remaining = max(1.0, timeout - (time.monotonic() - started))
                answer = self.predict(sample, content_type=content_type, timeout=remaining)
                if answer.status != 200:
                    raise ServerError(f"the sample got {answer.status}: {answer.body!r}")
                return answer
            if time.monotonic() - told > TOLD_EVERY_SECONDS:
                told = time.monotonic()
                say(f"waiting for a worker ({told - started:.0f} s of {timeout:.0f})")
            time.sleep(POLL_SECONDS)
        raise ServerError(
            f"no worker was ready within {timeout:.0f} s; see {self.log_dir}; the worker's last "
            f"words:\n{tail(self._read_workers())}"
        )

    def warm_up(self, sample: bytes, *, content_type: str) -> None:
        """Send a sample until Java has compiled what a request needs, or for half a second."""
        ends = time.monotonic() + WARM_UP_SECONDS
        for _ in range(WARM_UP_REQUESTS):
            if time.monotonic() < ends:
                self.predict(sample, content_type=content_type)

    def stop(self) -> bool:
        """Stop TorchServe and its workers; return whether any of them was alive.

        A damaged state is cleared away as well.
        """
        family = self.family
        temp = processes.temporary_folder(family[0]) if family else self._recorded_temp()
        if temp is not None:
            family += [each for each in processes.orphans(temp) if each not in family]
        if family:
            processes.end(family, STOP_SECONDS)
        if temp is not None:
            shutil.rmtree(temp, ignore_errors=True)
        (self.run_dir / KEYS).unlink(missing_ok=True)
        (self.run_dir / STATE).unlink(missing_ok=True)
        return bool(family)

    @property
    def running(self) -> bool:
        """Whether this server's TorchServe process is alive."""
        return bool(self.family)

    @property
    def workers(self) -> list[psutil.Process]:
        """The Python workers."""
        return [each for each in self.family if processes.is_worker(each)]

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the Python workers."""
        return [process.pid for process in self.workers]

    @property
    def family(self) -> list[psutil.Process]:
        """TorchServe's Java process, then everything it started; empty if it is not alive."""
        server = processes.find_server(self.run_dir / SETTINGS, self._recorded_pid())
        try:
            return [server, *server.children(recursive=True)] if server is not None else []
        except psutil.Error:
            return []

    def _recorded_temp(self) -> Path | None:
        """Return the folder of temporary files, if the state is there and whole."""
        try:
            return self.state.temp
        except ServerError:
            return None

    def _recorded_pid(self) -> int | None:
        """Return the process id that `torchserve --start` noted; it may be reused by now."""
        temp = self._recorded_temp()
        try:
            return int((temp / ".model_server.pid").read_text()) if temp is not None else None
        except (OSError, ValueError):
            return None

    def _worker_ready(self) -> bool:
        try:
            model = self.describe()[0]
        except (ServerError, ValueError, KeyError):
            return False
        return any(worker["status"] == "READY" for worker in model["workers"])

    def _failure(self) -> str | None:
        """Return why no worker will become ready, if that is already certain."""
        if not (self.run_dir / STATE).is_file():
            return "it was stopped while it started"
        if not self.running:
            return f"TorchServe ended at once; see {self.log_dir}:\n{self._logs.last_words()}"
        log = self._read_workers()
        if TRACEBACK not in log:
            return None
        for _ in range(ERROR_POLLS):
            time.sleep(POLL_SECONDS)
            before, log = log, self._read_workers()
            if log == before:
                break
        return f"the worker failed: {worker_error(log)}\nsee {self._logs.worker_log}"

    def _read_workers(self) -> str:
        return self._logs.read_workers(self.state.log_start)
