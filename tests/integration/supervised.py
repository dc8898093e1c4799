"""A `torchscript-bundle run` of a test's own, and clients that load it."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.integration.helpers import READY_SECONDS, free_ports, wait_until
from torchscript_bundle.server import Answer
from torchscript_bundle.supervisor.front import find_nginx

KEY = "the-key-of-a-test-" + "x" * 20
MANAGER = "the-key-of-a-manager-" + "x" * 20
NO_NGINX = find_nginx() is None
WHY = "nginx is not installed; `make front` installs it"
BEARER = {"Authorization": f"Bearer {KEY}"}


def write_keys(path: Path, **keys: str) -> Path:
    """A file of keys: `inference` and `management`, each under its own name."""
    listed = [{"name": name, "key": key, "scope": name} for name, key in keys.items()]
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(listed))
    fresh.replace(path)
    return path


class Supervised:
    """The process, its addresses and its folder."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        ports = free_ports()
        self.port, self.admin_port = ports.inference, ports.management
        self.folder = folder
        self.keys = write_keys(folder / "keys.json", inference=KEY, management=MANAGER)
        self.said = folder / "said.txt"
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "torchscript_bundle", "run"),
                    *("--port", str(self.port), "--admin-port", str(self.admin_port)),
                    *("--run-dir", str(folder / "run"), "--log-dir", str(folder / "logs")),
                    *("--keys", str(self.keys), *arguments),
                ],
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    def send(
        self,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] = BEARER,
        *,
        method: str = "POST",
        port: int | None = None,
    ) -> Answer:
        """Sends one request."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=60)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            kind = response.headers.get("Content-Type", "")
            return Answer(response.status, kind, response.read())
        finally:
            connection.close()

    def predict(self, body: bytes, model: str = "under_test", **headers: str) -> Answer:
        """Asks a model."""
        kind = {"Content-Type": "text/plain", **BEARER, **headers}
        return self.send(f"/predictions/{model}", body, kind)

    def admin(self, path: str) -> Answer:
        """Asks the port of probes and metrics."""
        return self.send(path, headers={}, method="GET", port=self.admin_port)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of a metric that have these labels."""
        found = 0.0
        for line in self.admin("/metrics").body.decode().splitlines():
            if line.startswith(f"{name}{{") and all(
                f'{label}="{value}"' in line for label, value in labels.items()
            ):
                found += float(line.rpartition(" ")[2])
        return found

    def is_ready(self) -> bool:
        """Whether it says that it is."""
        assert self.process.poll() is None, self.said.read_text()
        try:
            return self.admin("/ready").status == 200
        except OSError:
            return False

    def wait_ready(self) -> None:
        """Waits until it says so."""
        wait_until(self.is_ready, "the supervisor was never ready")

    def end(self) -> None:
        """Ends it at once."""
        for _ in range(2):
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
                time.sleep(0.2)
        try:
            self.process.wait(READY_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[Supervised]:
    """A supervisor that is ready, ended afterwards."""
    supervised = Supervised(folder, *arguments)
    try:
        supervised.wait_ready()
        yield supervised
    finally:
        supervised.end()


class Load:
    """Clients that send one request after another, each on a connection that it keeps.

    They go away where they are told that the server is about to end.
    """

    def __init__(self, port: int, clients: int, body: bytes) -> None:
        self.statuses: Counter[int | str] = Counter()
        self.bodies: set[bytes] = set()
        self._port, self._body = port, body
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._send_all) for _ in range(clients)]

    def _send_all(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        while not self._stop.is_set():
            status, body = self._send(connection)
            with self._lock:
                self.statuses[status] += 1
                if status == 200:
                    self.bodies.add(body)
            if status == 503 or isinstance(status, str):  # it ends, or has
                break
        connection.close()

    def _send(self, connection: http.client.HTTPConnection) -> tuple[int | str, bytes]:
        try:
            headers = {"Content-Type": "text/plain", **BEARER}
            connection.request("POST", "/predictions/under_test", self._body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__, b""

    @property
    def answered(self) -> int:
        """How many got a 200."""
        return self.statuses[200]

    def wait_for(self, more: int) -> None:
        """Waits for more answers."""
        wanted = self.answered + more
        wait_until(lambda: self.answered >= wanted, f"no answers: {self.statuses}")

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


__all__ = ["BEARER", "KEY", "NO_NGINX", "WHY", "Load", "Supervised", "running"]
