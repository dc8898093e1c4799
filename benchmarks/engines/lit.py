"""LitServe with the model as transformers runs it, in the benchmark's own environment."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil

from benchmarks.engines.base import READY_SECONDS, Endpoint
from torchscript_bundle.server import DIRECT, ROOT, ServerError
from torchscript_bundle.server.machine import usable_cores

PYTHON = ROOT / ".venv-bench" / "bin" / "python"
PROGRAM = Path(__file__).resolve().with_name("lit_program.py")
SAMPLE = b'{"text": "It works."}'


class Lit:
    """Batches of up to eight.

    Args:
        checkpoint: the model's folder.
    """

    def __init__(self, checkpoint: Path) -> None:
        self._checkpoint = checkpoint

    def start(self, folder: Path) -> Endpoint:
        """See `Engine`."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [str(PYTHON), str(PROGRAM), str(self._checkpoint), str(port)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(usable_cores())}
        self._log = folder / "litserve.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        url = f"http://127.0.0.1:{port}/predict"
        try:
            self._wait(url)
        except BaseException:
            self.stop()
            raise
        return Endpoint(url, psutil.Process(self._process.pid))

    def _wait(self, url: str) -> None:
        """Returns when a request was answered."""
        until = time.monotonic() + READY_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            request = urllib.request.Request(url, SAMPLE, {"Content-Type": "application/json"})
            try:
                with DIRECT.open(request, timeout=READY_SECONDS):
                    return
            except urllib.error.URLError:
                time.sleep(0.2)
        raise ServerError(f"LitServe did not start:\n{self._log.read_text()[-2000:]}")

    def stop(self) -> None:
        """See `Engine`."""
        parent = psutil.Process(self._process.pid)
        family = [parent, *parent.children(recursive=True)]
        for each in family:
            each.terminate()
        _, alive = psutil.wait_procs(family, timeout=10)
        for each in alive:
            each.kill()
        self._process.wait()
