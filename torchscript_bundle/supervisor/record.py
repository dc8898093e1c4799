"""What a running supervisor notes in its run directory, for `status`, `token` and `stop`."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from torchscript_bundle.server import DIRECT, Server
from torchscript_bundle.server.state import ServerError

FILE = "run.json"


@dataclass(frozen=True)
class Record:
    """A supervisor: its process and when that began, its addresses, its file of keys.

    `folder` has nginx's files; `end_seconds` are those that it takes to end at most.
    """

    pid: int
    began: float
    url: str
    admin: str
    keys: str | None
    folder: str
    end_seconds: float

    @property
    def process(self) -> psutil.Process | None:
        """The process; None if it has ended, also where its number is another's by now."""
        with contextlib.suppress(psutil.Error):
            found = psutil.Process(self.pid)
            if found.create_time() == self.began and found.status() != psutil.STATUS_ZOMBIE:
                return found
        return None

    def save(self, run_dir: Path) -> None:
        """Write the record."""
        (run_dir / FILE).write_text(json.dumps(asdict(self), indent=2))

    def stop(self) -> None:
        """Tell the supervisor to end, and wait until it has answered everything."""
        process = self.process
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(self.end_seconds)
        except psutil.TimeoutExpired as error:
            raise ServerError(
                f"process {self.pid} has not ended within {self.end_seconds:g} s; a second "
                f"`kill {self.pid}` ends it at once"
            ) from error

    def readiness(self, seconds: float) -> float:
        """Ask whether all models answer; return how long that took. ServerError: the reason."""
        started = time.perf_counter()
        try:
            with DIRECT.open(f"{self.admin}/ready", timeout=seconds):
                return time.perf_counter() - started
        except urllib.error.HTTPError as error:
            said: dict[str, Any] = json.loads(error.read())
            raise ServerError(f"it is not ready: {said['missing']}") from error
        except OSError as error:
            raise ServerError(f"{self.admin} does not answer ({error})") from error

    def token(self) -> str:
        """Return the first key for clients."""
        if self.keys is None:
            raise ServerError("the keys of this server are not in a file")
        listed = json.loads(Path(self.keys).read_text("utf-8"))
        for entry in listed:
            if entry["scope"] == "inference":
                return str(entry["key"])
        raise ServerError(f"{self.keys} has no key for inference")


def find(run_dir: Path) -> Record | None:
    """Return the supervisor that runs in a run directory, None if there is none."""
    record = _read(run_dir)
    return record if record is not None and record.process is not None else None


def clear(run_dir: Path) -> None:
    """End what a killed supervisor has left: its TorchServes and its nginx."""
    record = _read(run_dir)
    if record is not None:
        for process in psutil.process_iter(["name", "cmdline"]):
            words = " ".join(process.info["cmdline"] or [])
            if process.info["name"] == "nginx" and record.folder in words:
                with contextlib.suppress(psutil.Error):
                    process.terminate()
                    process.wait(10)
        shutil.rmtree(record.folder, ignore_errors=True)
    for folder in (run_dir / "models").glob("*"):
        Server(folder, folder).stop()
    (run_dir / FILE).unlink(missing_ok=True)


def _read(run_dir: Path) -> Record | None:
    try:
        return Record(**json.loads((run_dir / FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None
