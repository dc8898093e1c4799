"""What a running supervisor notes in its run directory, for `status`, `token` and `stop`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from torchscript_bundle.server import Answer, Server
from torchscript_bundle.server.client import send
from torchscript_bundle.server.state import STATE, ServerError, load_state
from torchscript_bundle.supervisor.keys import VARIABLE

FILE = "run.json"


@dataclass(frozen=True)
class Record:
    """A supervisor: its process and when that began, its addresses, its file of keys.

    `folder` has nginx's files; `end_seconds` are those that it takes to end at most; `arguments`
    are those of its command line.
    """

    pid: int
    began: float
    url: str
    admin: str
    keys: str | None
    folder: str
    end_seconds: float
    arguments: list[str]

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
        answer = send(urllib.request.Request(f"{self.admin}/ready"), seconds)
        if answer.status != 200:
            raise ServerError(f"it is not ready: {answer.json()['missing']}")
        return time.perf_counter() - started

    def has_started(self) -> bool:
        """Return whether every model has answered a sample."""
        return send(urllib.request.Request(f"{self.admin}/startup"), 10).status == 200

    def reload(self, seconds: float) -> None:
        """Let it serve what its archives are now; ServerError: what failed, and is as before."""
        answer = self._send("/-/reload", "management", seconds)
        if answer.status == 409:
            raise ServerError("; ".join(answer.json()["failed"]))
        if answer.status != 200:
            raise ServerError(f"{self.url} refused to load archives: {answer.body!r}")

    def predict(self, model: str, body: bytes, *, content_type: str, timeout: float = 60) -> Answer:
        """POST a body to a model's predictions endpoint."""
        path = f"/predictions/{model}"
        return self._send(path, "inference", timeout, body, content_type)

    def _send(
        self,
        path: str,
        scope: str,
        seconds: float,
        body: bytes = b"",
        content_type: str = "text/plain",
    ) -> Answer:
        headers = {"Authorization": f"Bearer {self.token(scope)}", "Content-Type": content_type}
        request = urllib.request.Request(self.url + path, body, headers, method="POST")
        return send(request, seconds)

    def token(self, scope: str = "inference") -> str:
        """Return the first key of a scope."""
        text = Path(self.keys).read_text("utf-8") if self.keys else os.environ.get(VARIABLE)
        if text is None:
            raise ServerError(f"the keys of this server are neither in a file nor in {VARIABLE}")
        for entry in json.loads(text):
            if entry["scope"] == scope:
                return str(entry["key"])
        raise ServerError(f"{self.keys or VARIABLE} has no key for {scope}")


def find(run_dir: Path) -> Record | None:
    """Return the supervisor that runs in a run directory, None if there is none."""
    record = _read(run_dir)
    return record if record is not None and record.process is not None else None


def unpacked(run_dir: Path) -> dict[str, Path]:
    """Return the folders of the unpacked archives that a supervisor serves, by model."""
    states = [load_state(path.parent) for path in run_dir.glob(f"models/*/{STATE}")]
    return {each.model: each.store for each in states}


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
