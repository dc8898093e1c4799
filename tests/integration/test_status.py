"""What `status`, `start` and `stop` say and do where something is wrong."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.disks import disk, fill
from tests.integration.conftest import Site
from tests.integration.helpers import READY_SECONDS, end, free_ports, wait_until
from torchscript_bundle.server import (
    ROOT,
    NotRunningError,
    Ports,
    Server,
    ServerError,
    processes,
)
from torchscript_bundle.server.health import check

PATIENCE = 60.0


class Servers:
    """One server at a time, for tests that may end it."""

    def __init__(self, archive: Path, factory: pytest.TempPathFactory) -> None:
        self._archive = archive
        self._factory = factory
        self._server: Server | None = None

    def ready(self) -> Server:
        """The server that a test left, or a new one where it left none."""
        if self._server is None or not self._server.running:
            folder = self._factory.mktemp("status")
            self._server = Server(folder / "run", folder / "logs")
            self._server.start(self._archive, free_ports())
            self._server.wait_ready(b"x", READY_SECONDS)
        return self._server

    def end(self) -> None:
        if self._server is not None:
            end(self._server)


@pytest.fixture(scope="module")
def servers(tiny_site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    servers = Servers(tiny_site.archive, tmp_path_factory)
    yield servers
    servers.end()


@pytest.fixture
def server(servers: Servers) -> Iterator[Server]:
    """A server with one worker, of this file alone."""
    server = servers.ready()
    try:
        yield server
    finally:
        if server.running and len(server.worker_pids) != 1:
            end(server)


def temporary(server: Server) -> Path:
    """The folder of its temporary files."""
    return Path(json.loads((server.run_dir / "state.json").read_text())["temp"])


def scale(server: Server, workers: int) -> None:
    """Changes the number of workers as anybody can who has the management key."""
    port = json.loads((server.run_dir / "state.json").read_text())["ports"]["management"]
    url = f"http://127.0.0.1:{port}/models/{server.model}?synchronous=true"
    wanted = f"&min_worker={workers}&max_worker={workers}"
    assert server.request("PUT", url + wanted, "management").status == 200


def test_a_server_with_and_without_workers(server: Server) -> None:
    health = check(server, PATIENCE)
    assert (health.workers, health.planned) == (1, 1)
    assert 0 < health.seconds < PATIENCE
    scale(server, 0)
    with pytest.raises(ServerError, match=r"no worker: it was scaled to none.*make serve"):
        check(server, PATIENCE)
    scale(server, 2)
    wait_until(lambda: check(server, PATIENCE).workers == 2, "two workers are not seen")
    scale(server, 1)
    wait_until(lambda: len(server.worker_pids) == 1, "the second worker does not end")


def test_what_stands_still_is_named_and_can_be_stopped(server: Server) -> None:
    [worker] = server.worker_pids
    java = server.family[0].pid
    temp = temporary(server)
    for pid, name in ((worker, "a worker"), (java, "TorchServe")):
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda pid=pid: processes.is_stopped(psutil.Process(pid)), "it does not stop")  # type: ignore[misc]
        with pytest.raises(ServerError, match=rf"{name} \(process {pid}\) stands still"):
            check(server, PATIENCE)
    # Both still stand still.
    assert server.stop() is True
    assert not psutil.pid_exists(java)
    assert not psutil.pid_exists(worker)
    assert not temp.exists()


def test_a_worker_that_hangs_is_told_in_bounded_time(server: Server) -> None:
    """Frozen after `check` has looked whether anything stands still, as one that hangs is."""
    [worker] = server.worker_pids
    os.kill(worker, signal.SIGSTOP)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "is_stopped", lambda _: False)
        with pytest.raises(ServerError, match=r"no answer within 2 s \(\d+ requests wait"):
            check(server, 2.0)
    os.kill(worker, signal.SIGCONT)


def test_a_killed_server_and_what_took_its_port(server: Server) -> None:
    [worker] = server.worker_pids
    os.kill(worker, signal.SIGSTOP)  # or it would end with its server
    java = server.family[0]
    java.kill()
    psutil.wait_procs([java], timeout=READY_SECONDS)
    with pytest.raises(NotRunningError, match="has ended without being stopped"):
        check(server, PATIENCE)
    handler = http.server.BaseHTTPRequestHandler
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", server.state.ports.inference), handler
    ) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        says = rf"answered by something else \(process {os.getpid()}, "
        with pytest.raises(NotRunningError, match=says):
            check(server, PATIENCE)
        other.shutdown()
    temp = temporary(server)
    assert server.stop() is True
    assert not psutil.pid_exists(worker)
    assert not temp.exists()


def test_a_server_is_found_whatever_its_files_say(server: Server) -> None:
    """The pid file names another process, the state is cut off, as on a disk that was full."""
    temp = temporary(server)
    (temp / ".model_server.pid").write_text(str(os.getpid()))
    assert check(server, PATIENCE).workers == 1
    state = server.run_dir / "state.json"
    state.write_text(state.read_text()[:40])
    with pytest.raises(ServerError, match=r"state\.json is damaged; `make stop`"):
        check(server, PATIENCE)
    family = server.family
    assert server.stop() is True
    assert not any(process.is_running() for process in family)
    assert not temp.exists()
    assert not state.exists()


@pytest.mark.parametrize("keys", ["", '{"inference": {"k', "{}", "[]", '{"inference": 1}'])
def test_damaged_keys_are_told(tmp_path: Path, keys: str) -> None:
    (tmp_path / "key_file.json").write_text(keys)
    with pytest.raises(ServerError, match=r"key_file\.json is damaged; `make serve` makes new"):
        Server(tmp_path, tmp_path).token("inference")


def test_of_two_starts_one_is_told_of_the_other(tmp_path: Path) -> None:
    first, second = Server(tmp_path, tmp_path), Server(tmp_path, tmp_path)
    with first.starting():
        says = rf"another start is under way \(process {os.getpid()}\)"
        with pytest.raises(ServerError, match=says), second.starting():
            pass
    with second.starting():
        pass


def start_command(tmp_path: Path, tiny_site: Site, **places: Path) -> tuple[int, str]:
    """Exit status and words of the command `start`, as a shell runs it."""
    config = tmp_path / "setup_config.json"
    settings = {"mode": "sequence_classification", "archive_name": "under_test"}
    config.write_text(json.dumps({"model_name": str(tiny_site.checkpoint), **settings}))
    ports = [f"--{k.replace('_', '-')}-port={v}" for k, v in vars(free_ports()).items()]
    command = [
        *(sys.executable, "-m", "torchscript_bundle"),
        *("--run-dir", str(places.get("run", tmp_path / "run"))),
        *("--log-dir", str(places.get("logs", tmp_path / "logs"))),
        *("--model-store", str(tiny_site.archive.parent)),
        *("start", "--config", str(config), *ports),
    ]
    environment = {**os.environ, "TMPDIR": str(places.get("temp", tempfile.gettempdir()))}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("place", "read_only", "remedy"),
    [
        ("run", False, "--run-dir"),
        ("run", True, "--run-dir"),
        ("logs", False, "--log-dir"),
        ("logs", True, "--log-dir"),
        ("temp", False, "set TMPDIR"),
    ],
)
def test_a_start_where_nothing_can_be_written(
    tmp_path: Path, tiny_site: Site, place: str, read_only: bool, remedy: str
) -> None:
    """One sentence, nothing left behind, and no process."""
    room = tiny_site.archive.stat().st_size // 1024 - 50 if place == "temp" else 200
    with disk(tmp_path / "small", room, *(["ro"] if read_only else [])) as small:
        if place != "temp" and not read_only:
            fill(small)
        before = sorted(small.rglob("*"))
        status, said = start_command(tmp_path, tiny_site, **{place: small})
        assert status == 1
        [line] = said.splitlines()
        reason = "Read-only file system" if read_only else "No space left on device"
        assert line.startswith(f"error: {small}")
        assert reason in line
        assert remedy in line
        assert sorted(small.rglob("*")) == before
    places = {"run": tmp_path / "run", place: small}
    assert processes.find_server(places["run"].resolve() / "config.properties") is None


def test_ports_of_a_running_server_name_its_process(tmp_path: Path, tiny_site: Site) -> None:
    taken = tiny_site.port("inference")
    java = tiny_site.server.family[0].pid
    with pytest.raises(ServerError, match=rf"port {taken} is in use \(process {java}, java\);"):
        Ports(inference=taken).check_free()
