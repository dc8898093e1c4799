"""Ask a server whether it answers."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from torchscript_bundle.server import processes
from torchscript_bundle.server.advice import command
from torchscript_bundle.server.archives import ArchiveError, content_type, read_unpacked_samples
from torchscript_bundle.server.state import NotRunningError, ServerError, answers
from torchscript_bundle.server.supervisor import Server

RESTART = f"{command('serve')} starts it anew"


@dataclass(frozen=True)
class Health:
    """Seconds that the answer to a sample took, workers that are ready, and workers planned."""

    seconds: float
    workers: int
    planned: int


def check(server: Server, seconds: float) -> Health:
    """Ask a server to describe itself and to answer a sample, each within `seconds`.

    NotRunningError: no TorchServe is alive. ServerError: one is, and does not answer as it should.
    """
    if not server.running:
        raise NotRunningError(_why_not_running(server))
    _check_awake(server)
    model = _describe(server, seconds)
    ready = [worker for worker in model["workers"] if worker["status"] == "READY"]
    if not ready:
        raise ServerError(_why_no_worker(server, model))
    return Health(_ask(server, model, seconds), len(ready), server.state.workers)


def _why_not_running(server: Server) -> str:
    port = server.state.ports.inference  # raises where nothing was started
    said = f"TorchServe has ended without being stopped; see {server.log_dir}"
    if answers(port):
        said += f"; port {port} is answered by something else{processes.listener(port)}"
    return f"{said}; {RESTART}"


def _check_awake(server: Server) -> None:
    """Refuse a stopped process, which would never respond."""
    for process in server.family:
        if processes.is_stopped(process):
            name = "a worker" if process.pid in server.worker_pids else "TorchServe"
            raise ServerError(
                f"{name} (process {process.pid}) stands still, stopped by a signal; `kill -CONT "
                f"{process.pid}` lets it go on, {RESTART}"
            )


def _describe(server: Server, seconds: float) -> dict[str, Any]:
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
    """Send a sample; return the seconds until its answer."""
    store = server.state.store
    try:
        sample = read_unpacked_samples(store)[0]
    except ArchiveError as error:
        raise ServerError(
            f"{store} is not whole any more ({error}), so that a worker that dies cannot start "
            f"again; {RESTART}"
        ) from error
    if model.get("continuousBatching") and content_type(sample).startswith("text/plain"):
        # Without a limit the model would generate as much as it can.
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
