"""Start a supervisor in the background, or give other archives to the one that runs.

It serves a folder of its run directory, whose files are further names of the archives: what
happens to a file while it is made anew is no concern of the server.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torchscript_bundle.disk import link_or_copy
from torchscript_bundle.server.advice import command
from torchscript_bundle.server.logs import tail
from torchscript_bundle.server.state import ServerError
from torchscript_bundle.supervisor.record import Record, find

#: Of the run directory: the archives that are served, and of the log directory: what it says.
ARCHIVES, LOG = "archives", "run.log"
POLL_SECONDS, TOLD_EVERY_SECONDS = 0.2, 5.0


@dataclass(frozen=True)
class Background:
    """Where a supervisor runs, and the flags of `run` that it is started with."""

    run_dir: Path
    log_dir: Path
    flags: Sequence[str]

    @property
    def arguments(self) -> list[str]:
        """The arguments of `torchscript-bundle` that start it."""
        return [
            "run",
            *("--models", str(self.run_dir / ARCHIVES)),
            *("--run-dir", str(self.run_dir), "--log-dir", str(self.log_dir)),
            *self.flags,
        ]

    def serve(self, archives: Sequence[Path], seconds: float, say: Callable[[str], None]) -> Record:
        """Return the supervisor once each of the archives, and no other, has answered a sample.

        `say` is told every few seconds what is waited for. ServerError: why it does not; what was
        served before is served on.
        """
        running = find(self.run_dir)
        if running is not None and running.arguments != self.arguments:
            raise ServerError(
                f"process {running.pid} runs with other flags (torchscript-bundle "
                f"{' '.join(running.arguments)}); {command('stop')} stops it"
            )
        self._put(archives)
        if running is not None:
            running.reload(seconds)
            return running
        return self._start(seconds, say)

    def _put(self, archives: Sequence[Path]) -> None:
        folder = self.run_dir / ARCHIVES
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for archive in archives:
            link_or_copy(archive, folder / archive.name)
        for left in set(folder.iterdir()) - {folder / archive.name for archive in archives}:
            left.unlink()

    def _start(self, seconds: float, say: Callable[[str], None]) -> Record:
        self.log_dir.mkdir(parents=True, exist_ok=True)
        log = self.log_dir / LOG
        with log.open("ab") as file:
            began = file.tell()
            process = subprocess.Popen(
                [sys.executable, "-m", "torchscript_bundle", *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        started = told = time.monotonic()
        try:
            while time.monotonic() < started + seconds:
                if process.poll() is not None:
                    raise ServerError(_last_words(log, began))
                record = find(self.run_dir)
                if record is not None and record.has_started():
                    return record
                if time.monotonic() > told + TOLD_EVERY_SECONDS:
                    told = time.monotonic()
                    say(f"waiting for an answer ({told - started:.0f} s of {seconds:.0f})")
                time.sleep(POLL_SECONDS)
            raise ServerError(
                f"no answer within {seconds:.0f} s; {log} ends:\n{tail(log.read_text('utf-8'))}"
            )
        except BaseException:
            process.terminate()
            process.wait()
            raise


def _last_words(log: Path, began: int) -> str:
    """Return why it ended: its `error:` line, without that word."""
    with log.open("rb") as file:
        file.seek(began)
        said = file.read().decode("utf-8", "replace")
    _, error, reason = said.rpartition("error: ")
    return reason.strip() if error else f"it ended at once; {log} ends:\n{tail(said)}"
