"""Real TorchServes on free ports, each in its own temporary directory."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tiny
from tests.export.generation.helpers import MAX_LENGTH
from tests.exports import Exports
from tests.integration.generation import pack_writer
from tests.integration.helpers import READY_SECONDS, end, free_ports, wait_until
from tests.serving.generation.helpers import Written, make
from tests.serving.helpers import change
from tests.wrong import wire
from tests.wrong.core import MOST
from tests.wrong.explained import STEPS
from tests.wrong.rows import Sample, Sent
from tests.wrong.torchserve import Own
from torchscript_bundle.export.archive import pack
from torchscript_bundle.export.config import load_config
from torchscript_bundle.export.tasks import TASKS
from torchscript_bundle.server import Answer, Server
from torchscript_bundle.serving.modes import MODES
from torchscript_bundle.serving.service import Service

#: Until requests that were sent together are in TorchServe's queue, and how often that is tried.
IN_LINE_SECONDS = 1.0
ATTEMPTS = 5
#: Until what a worker said is in the log.
LOGGED_SECONDS = 0.3
#: Requests of a batch of the tiny server.
BATCH = 8
#: How long a request waits for the one that is sent beside it (ms).
SHARING_MS = 150
#: Seconds that a call may take: a busy machine refuses no small request.
PATIENCE = 60


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

    def batches_sent(self) -> int:
        """How many batches went to a worker so far."""
        return self._ts_log().count("Looping backend response at")

    def batches_in_flight(self) -> int:
        """How many of them did not come back, those of workers that died included."""
        log = self._ts_log()
        return log.count("Looping backend response at") - log.count("Backend response time")

    def _ts_log(self) -> str:
        return (self.server.log_dir / "ts_log.log").read_text(errors="replace")

    def port(self, name: str) -> int:
        """Port of one of the server's listeners."""
        return int(json.loads((self.server.run_dir / "state.json").read_text())["ports"][name])

    def metric(self, name: str) -> int:
        """What a counter of the workers stands at."""
        url = f"http://127.0.0.1:{self.port('metrics')}/metrics"
        with urllib.request.urlopen(url) as response:
            lines = response.read().decode().splitlines()
        return sum(int(float(line.split()[-1])) for line in lines if line.startswith(f"{name}{{"))

    def together(self, requests: list[Callable[[], Answer]]) -> list[Answer]:
        """Sends requests at the same moment; answers in their order."""
        barrier = threading.Barrier(len(requests))

        def send(request: Callable[[], Answer]) -> Answer:
            barrier.wait()
            return request()

        with ThreadPoolExecutor(len(requests)) as pool:
            return list(pool.map(send, requests))

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The only worker stands still with a request in hand: what is sent now waits in line."""
        [worker] = self.server.worker_pids
        before = self.batches_sent()
        with ThreadPoolExecutor(1) as pool:
            os.kill(worker, signal.SIGSTOP)
            try:
                first = pool.submit(self.server.predict, b"x")
                wait_until(lambda: self.batches_sent() > before, "no batch was sent")
                yield
            finally:
                os.kill(worker, signal.SIGCONT)
            assert first.result().status == 200

    def in_one_call(self, requests: list[Callable[[], Answer]]) -> list[Answer]:
        """The answers to requests that shared a call of the worker.

        They are sent again where the machine was too busy to have all of them in line in time.
        """
        for _ in range(ATTEMPTS):
            before = self.worker_calls()
            with ThreadPoolExecutor(len(requests)) as pool:
                with self.frozen():
                    sent = [pool.submit(request) for request in requests]
                    time.sleep(IN_LINE_SECONDS)
                answers = [each.result() for each in sent]
            time.sleep(LOGGED_SECONDS)
            if self.worker_calls() == before + 2:
                return answers
        raise AssertionError("the requests do not share a call")


class ModeSite(Site):
    """A server of one mode, whose worker waits a while for a second request.

    Attributes:
        service: what is served, in this process.
        worker: process id of the worker that has been there from the start.
        sent: how many pairs of requests were sent.
        calls_before: calls of the worker before the first of them, by the tests of other files.
    """

    def __init__(self, server: Server, checkpoint: Path, archive: Path, service: Service) -> None:
        super().__init__(server, checkpoint, archive)
        self.service = service
        self.worker = self.describe_worker()["pid"]
        self.sent = 0
        self.calls_before = 0

    def describe_worker(self) -> dict[str, Any]:
        """The only worker, as TorchServe's describe call has it."""
        [worker] = self.server.describe()[0]["workers"]
        return dict(worker)

    def send(self, sent: Sent) -> Answer:
        """The answer to a request."""
        typed = sent.content_type.encode("latin-1") if sent.content_type is not None else b""
        headers = [("Content-Type", typed)] if typed else []
        headers += [(name, value.encode("latin-1")) for name, value in sent.headers]
        wanted = Own("", "", 0, "", path=sent.path, headers=tuple(headers), body=sent.body)
        return self.exchange(wanted)

    def exchange(self, sent: Own) -> Answer:
        """The answer to a request that may be no HTTP at all."""
        key = self.server.token("inference") if sent.key is None else sent.key
        headers = [("Authorization", f"Bearer {key}".encode())] if key else []
        path = sent.path.format(model=self.server.model)
        port = self.port("inference")
        return wire.receive(
            wire.send(port, path, [*headers, *sent.headers], sent.body, sent.method)
        )

    def beside(self, request: Callable[[], Answer], good: object) -> tuple[Answer, Answer]:
        """The answers to two requests that share a batch.

        Args:
            request: sends the one.
            good: the other, as JSON says it.
        """
        if not self.sent:
            time.sleep(LOGGED_SECONDS)
            self.calls_before = self.worker_calls()
        self.sent += 1
        neighbour = Sent(json.dumps(good).encode())
        first, second = self.together([request, lambda: self.send(neighbour)])
        return first, second


@pytest.fixture(scope="session")
def build(exports: Exports) -> Callable[..., Path]:
    """What writes config, artifact and archive of a checkpoint into a folder."""

    def make(folder: Path, checkpoint: Path, **options: Any) -> Path:
        settings = {"mode": "sequence_classification", "archive_name": "under_test", **options}
        path = folder / "setup_config.json"
        path.write_text(json.dumps({"model_name": str(checkpoint), **settings}))
        config = load_config(path)
        artifact = exports.write(config, checkpoint, folder / "Transformer_model")
        return pack(artifact, folder / "model_store", config)

    return make


@pytest.fixture(scope="session")
def start_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Site]]:
    """Starts servers; all are stopped at the end of the session."""
    sites: list[Site] = []

    def start(
        checkpoint: Path, archive: Path, sample: bytes = b"Is anybody there?", **options: Any
    ) -> Site:
        folder = tmp_path_factory.mktemp("server")
        server = Server(folder / "run", folder / "logs")
        sites.append(Site(server, checkpoint, archive))
        server.start(archive, free_ports(), **options)
        server.wait_ready(sample, READY_SECONDS)
        return sites[-1]

    yield start
    for site in sites:
        end(site.server)


@pytest.fixture(scope="session")
def tiny_site(
    build: Callable[..., Path],
    start_site: Callable[..., Site],
    tmp_path_factory: pytest.TempPathFactory,
) -> Site:
    """A tiny random BERT in batches of up to eight.

    It is started where the environment would open what the settings close (test_doors.py).
    """
    folder = tmp_path_factory.mktemp("tiny")
    checkpoint = tiny.save_checkpoint(folder / "checkpoint")
    sizes = {"max_length": 64, "max_client_batch": 4, "batch_size": BATCH, "max_batch_delay": 20}
    sizes["max_call_seconds"] = PATIENCE
    archive = build(folder, checkpoint, **sizes)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TS_ENABLE_MODEL_API", "TS_DISABLE_TOKEN_AUTHORIZATION"):
            patch.setenv(name, "true")
        return start_site(checkpoint, archive)


@pytest.fixture(scope="session")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A tiny GPT-2 that writes, with room for many answers at once."""
    made = make("gpt2", tmp_path_factory.mktemp("writer") / "artifact")
    room = {"batch_size": 32, "max_batch_tokens": 16 * MAX_LENGTH}
    change(made.folder, made.folder, config=room)
    return made


@pytest.fixture(scope="session")
def writer_site(
    writer: Written, start_site: Callable[..., Site], tmp_path_factory: pytest.TempPathFactory
) -> Site:
    """A server with it."""
    return start_site(writer.folder, pack_writer(writer.folder, tmp_path_factory.mktemp("store")))


class ModeSites:
    """One server at a time: that of the mode which is asked for."""

    def __init__(
        self,
        build: Callable[..., Path],
        checkpoint: Callable[[str], Path],
        folder: Callable[[str], Path],
    ) -> None:
        self._build = build
        self._checkpoint = checkpoint
        self._folder = folder
        self._sample: Sample | None = None
        self._server: Server | None = None

    def of(self, sample: Sample) -> ModeSite:
        """The server of a mode's sample; another mode's is stopped."""
        if sample is not self._sample:
            self.stop()
            self._site = self._start(sample)
            self._sample = sample
        return self._site

    def _start(self, sample: Sample) -> ModeSite:
        folder, checkpoint = self._folder("mode"), self._checkpoint(sample.checkpoint)
        sizes = {"max_length": 64, "max_client_batch": MOST, "batch_size": 2}
        # Traced as by the fixtures `artifact` and `explained`, so that one export does for both.
        exported = {"mode": sample.mode, "traced_lengths": [16, 32], "max_call_seconds": PATIENCE}
        explaining = {
            "captum_explanation": TASKS[sample.mode].explained,
            "explanation_steps": STEPS,
        }
        options = {**exported, "max_batch_delay": SHARING_MS, **sizes, **explaining}
        archive = self._build(folder, checkpoint, **options)
        self._server = server = Server(folder / "run", folder / "logs")
        server.start(archive, free_ports())
        good = json.dumps(sample.good).encode()
        server.wait_ready(good, READY_SECONDS, content_type="application/json")
        service = Service(folder / "Transformer_model", torch.device("cpu"))
        return ModeSite(server, checkpoint, archive, service)

    def stop(self) -> None:
        """Stops the server, if there is one."""
        if self._server is not None:
            end(self._server)


@pytest.fixture(scope="session")
def mode_sites(
    build: Callable[..., Path],
    checkpoint: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ModeSites]:
    sites = ModeSites(build, checkpoint, tmp_path_factory.mktemp)
    yield sites
    sites.stop()


@pytest.fixture
def mode_site(sample: Sample, mode_sites: ModeSites) -> ModeSite:
    """The server of the mode that a test is parametrised with."""
    return mode_sites.of(sample)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts tests of one mode's server together, so that each is started once."""
    modes = list(MODES)

    def rank(item: pytest.Item) -> int:
        callspec = getattr(item, "callspec", None)
        sample = callspec.params.get("sample") if callspec is not None else None
        return modes.index(sample.mode) if isinstance(sample, Sample) else -1

    items.sort(key=rank)
