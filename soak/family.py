"""Find the processes of a server, and say what each is for."""

from __future__ import annotations

from pathlib import Path

import psutil

from torchscript_bundle.server.processes import MAIN_CLASS, is_worker, words


def family(root: psutil.Process, run_dir: Path) -> list[psutil.Process]:
    """Return a process and its descendants.

    Those of a Java that was started in `run_dir` and has lost its parent are among them.
    """
    mark = str(run_dir.resolve())
    roots = [root, *(each for each in psutil.process_iter() if _is_java_in(each, mark))]
    found: dict[int, psutil.Process] = {}
    for each in roots:
        try:
            found.update({one.pid: one for one in (each, *each.children(recursive=True))})
        except psutil.Error:
            continue
    return list(found.values())


def role(process: psutil.Process) -> str:
    """Say what a process is for, with the model where it has one; empty for one that ended."""
    command = words(process)
    if not command:
        return ""
    if MAIN_CLASS in command:
        return f"java {model_of(process)}"
    if is_worker(process):
        return f"worker {model_of(process)}"
    if any("nginx" in word for word in command[:2]):
        return "nginx"
    return "supervisor" if "torchscript_bundle" in command else Path(command[0]).name


def model_of(process: psutil.Process) -> str:
    """Return the model that a TorchServe, or the one that a worker belongs to, was given."""
    command = words(process)
    if MAIN_CLASS not in command:
        parent = process.parent()
        command = words(parent) if parent is not None else []
    if "-m" not in command:
        return ""
    return command[command.index("-m") + 1].partition("=")[0]


def _is_java_in(process: psutil.Process, mark: str) -> bool:
    command = words(process)
    return MAIN_CLASS in command and any(mark in word for word in command)
