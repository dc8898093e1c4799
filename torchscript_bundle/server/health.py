"""Whether a server answers, seen by asking it."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass
from typing import Any

from torchscript_bundle import processes
from torchscript_bundle.export.naming import content_type
from torchscript_bundle.server import NotRunningError, Server, ServerError
from torchscript_bundle.serving.artifact import SAMPLES_FILE

RESTART = "`make serve` starts it anew"


@dataclass(frozen=True)
class Health:
    """What was seen of a server that answers.

    Attributes:
        seconds: how long it took to answer a sample.
        workers: how many are ready.
        planned: how many were started.
    """

    seconds: float
    workers: int
    planned: int


def check(server: Server, seconds: float) -> Health:
    """Ask a server for a real answer.

    Args:
        server: what to ask.
        seconds: most that each of two questions may take.

    Raises:
        NotRunningError: no TorchServe lives.
        ServerError: one lives and does not answer as it should; the message says what was seen.
    """
    if not server.running:
        raise NotRunningError(_why_not_running(server))
    _check_awake(server)
    model = _describe(server, seconds)
    ready = [worker for worker in model["workers"] if worker["status"] == "READY"]
    if not ready:
        raise ServerError(_why_no_worker(server, model))
    return Health(_ask(server, model, seconds), len(ready), server.planned_workers)


def _why_not_running(server: Server) -> str:
    port = server.port  # raises what is to be said where nothing was started
    said = f"TorchServe has ended without being stopped; see {server.log_dir}"
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", port)) == 0
    if taken:
        said += f"; port {port} is answered by something else{processes.listener(port)}"
    return f"{said}; {RESTART}"


def _check_awake(server: Server) -> None:
    """Refuse where a process stands still: nothing that is sent to it would come back."""
    for process in server.family:
        if processes.is_stopped(process):
            name = "a worker" if process.pid in server.worker_pids else "TorchServe"
            raise ServerError(
                f"{name} (process {process.pid}) stands still, stopped by a signal; `kill -CONT "
                f"{process.pid}` lets it go on, {RESTART}"
            )


def _describe(server: Server, seconds: float) -> dict[str, Any]:
    """TorchServe's own description of the model."""
    try:
        [model] = server.describe(timeout=seconds)
        return dict(model)
    except (ValueError, TypeError, KeyError) as error:
        raise ServerError(f"TorchServe does not describe the model; {RESTART}") from error


def _why_no_worker(server: Server, model: dict[str, Any]) -> str:
    if model["minWorkers"] == 0:
        return (
            "there is no worker: it was scaled to none over the management API, so that requests "
            f"get 503; {RESTART}"
        )
    return (
        f"no worker is ready: one is starting, or none can start; see {server.log_dir}; {RESTART}"
    )


def _ask(server: Server, model: dict[str, Any], seconds: float) -> float:
    """Send a sample; return how long its answer took."""
    try:
        sample = str(json.loads((server.store / SAMPLES_FILE).read_text(encoding="utf-8"))[0])
    except (OSError, ValueError, LookupError) as error:
        raise ServerError(
            f"{server.store} is not there any more, so a worker that dies cannot start again; "
            f"{RESTART}"
        ) from error
    if model.get("continuousBatching") and content_type(sample).startswith("text/plain"):
        # It would write as much as it can.
        sample = json.dumps({"inputs": sample, "parameters": {"max_new_tokens": 1}})
    started = time.perf_counter()
    try:
        kind = content_type(sample)
        answer = server.predict(sample.encode(), content_type=kind, timeout=seconds)
    except ServerError as error:
        waiting = model.get("jobQueueStatus", {}).get("pendingRequests", "unknown")
        raise ServerError(
            f"a sample got no answer within {seconds:g} s ({waiting} requests wait before it): the "
            f"workers are busy, or hang; see {server.log_dir}; {RESTART}"
        ) from error
    if answer.status != 200:
        raise ServerError(f"a sample got {answer.status}: {answer.body.decode('utf-8', 'replace')}")
    return time.perf_counter() - started
