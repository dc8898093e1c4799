"""TorchServe's processes, found by what their command lines say.

A pid file alone does not do: it is empty where the disk was full, and its number may be another
process's by now.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import psutil

MAIN_CLASS = "org.pytorch.serve.ModelServer"
WORKER = "model_service_worker.py"
#: What TorchServe's Java is told of the folder for temporary files.
TEMPORARY = "-Djava.io.tmpdir="


def words(process: psutil.Process) -> list[str]:
    """The command line of a process; empty for one that has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def find_server(settings: Path, pid: int | None = None) -> psutil.Process | None:
    """Return the TorchServe that was started with a settings file.

    Args:
        settings: its `config.properties`.
        pid: where it probably is, so that not all processes are looked at.
    """
    if pid is not None and psutil.pid_exists(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            known = psutil.Process(pid)
            if _serves(known, settings):
                return known
    return next((each for each in psutil.process_iter() if _serves(each, settings)), None)


def temporary_folder(server: psutil.Process) -> Path | None:
    """The folder for temporary files that a TorchServe was given."""
    given = [word.removeprefix(TEMPORARY) for word in words(server) if word.startswith(TEMPORARY)]
    return Path(given[0]) if given else None


def orphans(folder: Path) -> list[psutil.Process]:
    """Workers whose sockets are in a folder: what is left where Java was killed."""
    return [process for process in psutil.process_iter() if _works_in(process, folder)]


def is_stopped(process: psutil.Process) -> bool:
    """Whether a process stands still because of a signal (SIGSTOP)."""
    try:
        return bool(process.status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False


def end(family: Sequence[psutil.Process], seconds: float) -> None:
    """End processes: the first is asked to end the others; what is left then is killed.

    Args:
        family: a process, then those that it started.
        seconds: until they are killed.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        family[0].terminate()
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()  # one that stands still would not notice
    _, alive = psutil.wait_procs(family, timeout=seconds)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=seconds)


def listener(port: int) -> str:
    """Which process listens on a port, as far as this user may know, in brackets."""
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


def _works_in(process: psutil.Process, folder: Path) -> bool:
    command = words(process)
    named = any(word.startswith(f"{folder}/") for word in command)
    return named and any(WORKER in word for word in command)
