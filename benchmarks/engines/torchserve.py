"""A TorchServe with one archive, in places of its own."""

from __future__ import annotations

import json
from pathlib import Path

import psutil

from benchmarks.engines.base import READY_SECONDS, Endpoint
from benchmarks.ports import free_ports
from torchscript_bundle.server import Server

SAMPLE = json.dumps({"text": "It works."}).encode()


class TorchServe:
    """Serves an archive with the planned workers and threads.

    Args:
        archive: the `.mar`.
        workers: worker processes; None for the plan's.
    """

    def __init__(self, archive: Path, workers: int | None = None) -> None:
        self.archive = archive
        self._workers = workers

    def start(self, folder: Path) -> Endpoint:
        """See `Engine`."""
        self.server = Server(folder / "run", folder / "logs")
        ports = free_ports()
        self.server.start(self.archive, ports, workers=self._workers)
        try:
            self.server.wait_ready(SAMPLE, READY_SECONDS, content_type="application/json")
        except BaseException:
            self.stop()
            raise
        return endpoint(self.server)

    def stop(self) -> None:
        """See `Engine`."""
        self.server.stop()


def endpoint(server: Server) -> Endpoint:
    """How to reach a TorchServe that runs."""
    ports = json.loads((server.run_dir / "state.json").read_text())["ports"]
    worker = psutil.Process(server.worker_pids[0])
    return Endpoint(
        server.address,
        worker.parents()[0],
        {"Authorization": f"Bearer {server.token('inference')}"},
        f"http://127.0.0.1:{ports['metrics']}/metrics",
    )
