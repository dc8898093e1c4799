"""Read the logs of TorchServe and its workers."""

from __future__ import annotations

import json
from pathlib import Path

ERROR_LINES = 20
TRACEBACK = "Traceback (most recent call last)"


class Logs:
    """The log folder of one server."""

    def __init__(self, folder: Path) -> None:
        self.worker_log = folder / "model_log.log"
        self.console = folder / "console.log"
        self._of_server = folder / "ts_log.log"

    def worker_log_size(self) -> int:
        """Return the bytes that workers have logged so far, of earlier starts too."""
        return self.worker_log.stat().st_size if self.worker_log.is_file() else 0

    def read_workers(self, start: int) -> str:
        """Return what workers logged from byte `start` on; all of it if the log is a new one."""
        if not self.worker_log.is_file():
            return ""
        with self.worker_log.open("rb") as file:
            file.seek(start if start <= self.worker_log_size() else 0)
            return file.read().decode("utf-8", "replace")

    def last_words(self) -> str:
        """Return what TorchServe said before it ended: on its console if it got no further."""
        logs = [log for log in (self.console, self._of_server) if log.is_file()]
        said = (log.read_text(errors="replace") for log in logs)
        return tail(next((text for text in said if text.strip()), ""))


def worker_error(log: str) -> str:
    """Return the exception of the last traceback in a worker's log, with its message.

    The message ends where TorchServe's next worker begins to log, or after `ERROR_LINES`.
    """
    lines = [said for line in log.splitlines() for said in _said(line)]
    start = max(at for at, line in enumerate(lines) if TRACEBACK in line)
    trace = lines[start + 1 :]
    ends = [at for at, line in enumerate(trace) if line and not line.startswith(" ")]
    message = trace[ends[0] :] if ends else trace
    restarts = [at for at, line in enumerate(message) if line.startswith("s_name_part0=")]
    return "\n".join(message[: min(restarts, default=len(message))][:ERROR_LINES]).rstrip()


def _said(line: str) -> list[str]:
    """Return what a worker said in a line of either form (docs/observing.md)."""
    try:
        return str(json.loads(line)["message"]).splitlines()
    except (ValueError, TypeError, KeyError):
        return [line.split(" - ", 1)[-1]]


def tail(text: str, lines: int = 15) -> str:
    """Return the last lines of a text."""
    return "\n".join(text.splitlines()[-lines:]) or "(nothing)"
