"""Find TorchServe's processes by their command lines.

A pid file alone is not enough: it is empty after a full disk, and its number may be reused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import psutil

MAIN_CLASS = "org.pytorch.serve.ModelServer"
WORKER = "model_service_worker.py"
#: Java's option for the folder of temporary files.
TEMPORARY = "-Djava.io.tmpdir="


def words(process: psutil.Process) -> list[str]:
    """Return the command line of a process; empty for one that has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def find_server(settings: Path, pid: int | None = None) -> psutil.Process | None:
    """Return the TorchServe that was started with a settings file; `pid` is tried first."""
    if pid is not None and psutil.pid_exists(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            known = psutil.Process(pid)
            if _serves(known, settings):
                return known
    return next((each for each in psutil.process_iter() if _serves(each, settings)), None)


def temporary_folder(server: psutil.Process) -> Path | None:
    """Return the folder for temporary files that a TorchServe was given."""
    given = [word.removeprefix(TEMPORARY) for word in words(server) if word.startswith(TEMPORARY)]
    return Path(given[0]) if given else None


def is_worker(process: psutil.Process) -> bool:
    """Return whether a process is a Python worker."""
    return any(WORKER in word for word in words(process))


def orphans(folder: Path) -> list[psutil.Process]:
    """Return the workers whose sockets are in a folder, as they are left where Java was killed."""
    return [
        process
        for process in psutil.process_iter()
        if is_worker(process) and any(word.startswith(f"{folder}/") for word in words(process))
    ]


def is_stopped(process: psutil.Process) -> bool:
    """Return whether a process is stopped by a signal (SIGSTOP)."""
    try:
        return bool(process.status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False


def end(family: Sequence[psutil.Process], seconds: float) -> None:
    """Ask the first process to end those that it started; after `seconds`, kill what is left."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family[0].terminate()
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()  # a stopped one would not notice
    _, alive = psutil.wait_procs(family, timeout=seconds)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=seconds)


def listener(port: int) -> str:
    """Return which process listens on a port, in brackets, as far as this user may know."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.Error:
        return ""
    for each in connections:
        if each.status == psutil.CONN_LISTEN and each.laddr[1:] == (port,) and each.pid:
            with contextlib.suppress(psutil.Error):
                return f" (process {each.pid}, {psutil.Process(each.pid).name()})"
    return ""


def _serves(process: psutil.Process, settings: Path) -> bool:
    command = words(process)
    return MAIN_CLASS in command and str(settings) in command
