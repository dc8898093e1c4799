"""`torchserve --start` by hand, as docs/operating.md shows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.conftest import Site
from tests.integration.helpers import READY_SECONDS, close, free_ports
from torchscript_bundle.server import BASE_PROPERTIES, LOG_CONFIG, Ports
from torchscript_bundle.server.machine import java_home

TEXT = "We waited an hour for cold soup."
TORCHSERVE = Path(sys.executable).parent / "torchserve"


def with_ports(properties: str, ports: Ports) -> str:
    """The properties with this test's ports in the place of TorchServe's usual ones."""
    for name, usual in vars(Ports()).items():
        properties = properties.replace(str(usual), str(getattr(ports, name)))
    return properties


ADDRESSES_ONLY = "\n".join(
    line
    for line in BASE_PROPERTIES.read_text().splitlines()
    if "address=" in line or "grpc_" in line
)


@contextmanager
def by_hand(folder: Path, properties: str, archive: Path) -> Iterator[None]:
    """Starts and stops with TorchServe's own command, in a directory of its own."""
    config = folder / "config.properties"
    config.write_text(properties)
    temp = tempfile.mkdtemp(prefix="ts-")
    environment = {**os.environ, "TMPDIR": temp, "TEMP": temp}
    environment["JAVA_HOME"] = str(java_home(sys.executable))
    environment.pop("PYTHONPATH", None)

    def torchserve(*arguments: str) -> None:
        with (folder / "console.log").open("ab") as console:
            subprocess.run(
                [TORCHSERVE, *arguments],
                cwd=folder,
                env=environment,
                stdout=console,
                stderr=console,
                check=True,
            )

    store = ["--model-store", str(archive.parent), "--models", f"under_test={archive.name}"]
    torchserve(
        "--start", "--ncs", *store, "--ts-config", str(config), "--log-config", str(LOG_CONFIG)
    )
    try:
        yield
    finally:
        torchserve("--stop", "--foreground")


def curl(folder: Path, port: int, *arguments: str) -> str:
    """The curl of docs/operating.md, with the key that TorchServe wrote."""
    key = json.loads((folder / "key_file.json").read_text())["inference"]["key"]
    url = f"http://127.0.0.1:{port}/predictions/under_test"
    command = ["curl", "-sS", "-H", f"Authorization: Bearer {key}", *arguments, url]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def wait(answer: Callable[[], str]) -> str:
    """Repeats until there is a label: TorchServe answers before a worker can."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            text = answer()
            if "label" in text:
                return text
        except (OSError, ValueError, subprocess.CalledProcessError):
            text = "no answer"
        assert time.monotonic() < deadline, text
        time.sleep(0.3)


@pytest.mark.parametrize(
    "properties",
    [BASE_PROPERTIES.read_text(), pytest.param(ADDRESSES_ONLY, marks=pytest.mark.slow)],
    ids=["shipped", "addresses only"],
)
def test_started_by_hand_it_answers_alike(tmp_path: Path, tiny_site: Site, properties: str) -> None:
    """With the shipped settings, and with TorchServe's own, bad bodies included."""
    ports = free_ports()
    with by_hand(tmp_path, with_ports(properties, ports), tiny_site.archive):
        port = ports.inference
        plain = ["-H", "Content-Type: text/plain", "--data-binary", TEXT]
        answer = wait(lambda: curl(tmp_path, port, *plain))
        found, expected = json.loads(answer), tiny_site.server.predict(TEXT.encode()).json()
        # Another number of threads may add in another order.
        assert close(found, expected), (found, expected)
        typed = ["-H", "Content-Type: application/json", "-d"]
        bad = curl(tmp_path, port, *typed, '{"text": ')
        assert "declared as JSON but is not" in json.loads(bad)["error"]
        untyped = curl(tmp_path, port, "-d", '{"text": "a"}')
        assert "Content-Type: application/json" in json.loads(untyped)["error"]
