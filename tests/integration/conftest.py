"""Real TorchServes on free ports, each in its own temporary directory."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from torchscript_bundle.export.archive import pack
from torchscript_bundle.export.config import load_config
from torchscript_bundle.export.exporter import export
from torchscript_bundle.server import ROOT, Answer, Ports, Server

READY_SECONDS = 120


class Site:
    """A running server with the checkpoint that it serves."""

    def __init__(self, server: Server, checkpoint: Path, archive: Path) -> None:
        self.server = server
        self.checkpoint = checkpoint
        self.archive = archive

    def logs(self) -> str:
        """Everything that was logged, by TorchServe and by the worker."""
        files = self.server.log_dir.glob("*.log")
        return "".join(path.read_text(errors="replace") for path in files)

    def worker_calls(self) -> int:
        """How often the worker's handler was called so far."""
        log = (self.server.log_dir / "model_log.log").read_text(errors="replace")
        return log.count("Backend received inference")

    def port(self, name: str) -> int:
        """Port of one of the server's listeners."""
        return int(json.loads((self.server.run_dir / "state.json").read_text())["ports"][name])

    def together(self, requests: list[Callable[[], Answer]]) -> list[Answer]:
        """Sends requests at the same moment; answers in their order."""
        barrier = threading.Barrier(len(requests))

        def send(request: Callable[[], Answer]) -> Answer:
            barrier.wait()
            return request()

        with ThreadPoolExecutor(len(requests)) as pool:
            return list(pool.map(send, requests))


def build(folder: Path, checkpoint: Path, **options: Any) -> Path:
    """Config, artifact and archive of a checkpoint, in `folder`."""
    settings = {"mode": "sequence_classification", "archive_name": "under_test", **options}
    path = folder / "setup_config.json"
    path.write_text(json.dumps({"model_name": str(checkpoint), **settings}))
    config = load_config(path)
    export(config, folder / "Transformer_model")
    return pack(folder / "Transformer_model", folder / "model_store", config)


@pytest.fixture(scope="session")
def start_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Site]]:
    """Starts servers; all are stopped at the end of the session."""
    sites: list[Site] = []

    def start(checkpoint: Path, archive: Path, **options: Any) -> Site:
        folder = tmp_path_factory.mktemp("server")
        server = Server(folder / "run", folder / "logs")
        sites.append(Site(server, checkpoint, archive))
        server.start(archive, Ports.free(), **options)
        server.wait_ready(b"Is anybody there?", READY_SECONDS)
        return sites[-1]

    yield start
    for site in sites:
        site.server.stop()


@pytest.fixture(scope="session")
def tiny_site(tmp_path_factory: pytest.TempPathFactory, start_site: Callable[..., Site]) -> Site:
    """A tiny random BERT whose worker waits half a second for a batch of eight."""
    folder = tmp_path_factory.mktemp("tiny")
    checkpoint = tiny.save_checkpoint(folder / "checkpoint")
    archive = build(
        folder, checkpoint, max_length=64, max_batch_delay=500, max_client_batch=4, batch_size=8
    )
    return start_site(checkpoint, archive)


@pytest.fixture(scope="session")
def demo_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped config's archive: the demo model that `demo/train.py` made."""
    if not (ROOT / "demo" / "model" / "model.safetensors").is_file():
        pytest.fail("the demo model is not there; `make test` makes it first")
    folder = tmp_path_factory.mktemp("demo")
    config = load_config(ROOT / "setup_config.json")
    export(config, folder / "Transformer_model")
    return pack(folder / "Transformer_model", folder / "model_store", config)


@pytest.fixture(scope="session")
def demo_site(demo_archive: Path, start_site: Callable[..., Site]) -> Site:
    """A server with the demo model."""
    return start_site(ROOT / "demo" / "model", demo_archive)
