"""The server itself: keys, addresses, logs, failures, recovery."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
import transformers

from tests.integration.conftest import BATCH, Site
from tests.integration.helpers import READY_SECONDS, end, free_ports, wait_until
from tests.tampering import changed, resum
from torchscript_bundle.__main__ import main
from torchscript_bundle.server import (
    ROOT,
    NotRunningError,
    Ports,
    Server,
    ServerError,
    launching,
)
from torchscript_bundle.server.state import State


def test_without_the_key_nothing_is_answered(tiny_site: Site) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", tiny_site.port("inference"))
    connection.request("POST", "/predictions/under_test", b"x", {"Content-Type": "text/plain"})
    assert connection.getresponse().status == 400
    connection.close()


def test_keys_are_for_their_owner_and_last_a_year(tiny_site: Site) -> None:
    path = tiny_site.server.run_dir / "key_file.json"
    assert path.stat().st_mode & 0o077 == 0
    assert tiny_site.server.properties()["token_expiration_min"] == str(365 * 24 * 60)
    assert tiny_site.server.token("inference") not in tiny_site.logs()


def test_only_loopback_is_listened_on(tiny_site: Site) -> None:
    ports = {tiny_site.port(name) for name in vars(Ports())}
    listening = {
        connection.laddr.ip
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port in ports
    }
    assert listening
    assert listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_metrics_are_for_prometheus(tiny_site: Site) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", tiny_site.port("metrics"))
    connection.request("GET", "/metrics")
    assert b"# TYPE ts_inference_requests_total counter" in connection.getresponse().read()
    connection.close()


def test_metrics_tell_how_much_of_the_work_is_padding(tiny_site: Site) -> None:
    """The tokens that are left without padding are those of the texts."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_site.checkpoint)
    texts = ["hour " * count for count in (2, 3, 9, 25)]
    real = sum(len(tokenizer(text)["input_ids"]) for text in texts)
    before = settled(tiny_site)
    answer = tiny_site.server.predict(json.dumps(texts).encode(), content_type="application/json")
    assert answer.status == 200
    wait_until(lambda: counted(tiny_site) != before, "the metrics do not move")
    computed, padding = (now - then for now, then in zip(settled(tiny_site), before, strict=True))
    assert computed - padding == real
    assert 0 <= padding < real


def counted(site: Site) -> tuple[int, int]:
    """Tokens computed so far, and how many of them were padding."""
    return site.metric("ComputedTokens"), site.metric("PaddingTokens")


def settled(site: Site) -> tuple[int, int]:
    """The same once nothing is under way from a worker to the metrics."""
    seen = [counted(site)]

    def unchanged() -> bool:
        time.sleep(0.3)
        seen.append(counted(site))
        return len(set(seen[-4:])) == 1 and len(seen) > 3

    wait_until(unchanged, "the metrics do not stop moving")
    return seen[-1]


#: Bodies that the handler reads, right and wrong.
READ = [
    (b"zebrafish in plain sight", "text/plain"),
    (b'{"text": "zebrafish", "zebrafish": 1}', "application/json"),
    (b'{"text": "zebrafish', "application/json"),
    (b'{"text": "zebrafish \\ud800"}', "application/json"),
    (b"zebrafish \xff", "text/plain"),
    (b"zebrafish=zebrafish", "application/x-www-form-urlencoded"),
    (b"zebrafish", "image/zebrafish"),
]
#: Queries and bodies that TorchServe parses, or cannot.
PARSED = [
    ("", b"data=zebrafish was 100% great", "application/x-www-form-urlencoded"),
    ("", b"zebrafish 100% x", "application/x-www-form-urlencoded"),
    (
        "",
        b'--xx\r\nContent-Disposition: form-data; name="data"\r\n'
        b"Content-Type: text/plain; charset=zebrafish\r\n\r\nzebrafish\r\n--xx--\r\n",
        "multipart/form-data; boundary=xx",
    ),
    ("?text=zebrafish", b"x", "text/plain"),
]


def test_request_texts_are_never_logged(tiny_site: Site) -> None:
    """Nor by TorchServe itself: what it cannot parse it answers by itself, before any handler."""
    for body, content_type in READ:
        answer = tiny_site.server.predict(body, content_type=content_type)
        assert answer.status < 500, body
    for query, body, content_type in PARSED:
        headers = {"Content-Type": content_type}
        url = tiny_site.server.address + query
        tiny_site.server.request("POST", url, "inference", body=body, headers=headers)
    time.sleep(0.5)
    assert "zebrafish" not in tiny_site.logs()
    assert tiny_site.logs()


def test_a_killed_worker_costs_its_batch_alone(tiny_site: Site) -> None:
    """Under load: the batch in flight gets 507 or 500, others are answered, service goes on.

    Which of them is TorchServe's choice: 500 where it was still writing to the worker.
    """
    [victim] = tiny_site.server.worker_pids
    lost = tiny_site.batches_in_flight()
    statuses: list[tuple[float, int]] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            status = tiny_site.server.predict(b"hour " * 60, timeout=READY_SECONDS).status
            statuses.append((time.monotonic(), status))

    threads = [threading.Thread(target=load) for _ in range(2 * BATCH)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(statuses) > 4 * BATCH, "nothing is answered")
    # Freeze it first, so that a batch is surely in flight when it dies.
    os.kill(victim, signal.SIGSTOP)
    time.sleep(1)
    wait_until(lambda: tiny_site.batches_in_flight() > lost, "no batch is in flight")
    os.kill(victim, signal.SIGKILL)
    killed = time.monotonic()
    try:
        wait_until(
            lambda: any(at > killed and status == 200 for at, status in statuses),
            "the server did not recover",
        )
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    recovered = min(at for at, status in statuses if at > killed and status == 200) - killed
    counts = Counter(status for _, status in statuses)
    print(f"first answer {recovered:.1f} s after the kill; {counts}")
    assert set(counts) <= {200, 500, 507}
    assert 1 <= counts[500] + counts[507] <= BATCH
    assert tiny_site.server.worker_pids != [victim]


def test_a_worker_that_cannot_load_is_reported_in_its_own_words(
    tmp_path: Path, tiny_site: Site
) -> None:
    broken = tmp_path / "broken.mar"
    shutil.copy(tiny_site.archive, broken)
    changed("tokenizer.json", lambda raw: raw + b" ")(broken)
    resum(broken)  # or it would be refused before it starts
    server = Server(tmp_path / "run", tmp_path / "logs")
    server.start(broken, free_ports())
    try:
        with pytest.raises(ServerError, match=r"tokenizer\.json is not the file.*sha256"):
            server.wait_ready(b"x", READY_SECONDS)
    finally:
        end(server)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [("vmargs=-XX:NoSuchFlag", "NoSuchFlag"), ("metrics_address=http://127.0.0.1:none", "none")],
)
def test_a_torchserve_that_ends_at_once_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_site: Site, wrong: str, says: str
) -> None:
    """On its console where Java itself refuses, in its log where TorchServe does."""
    server = Server(tmp_path / "run", tmp_path / "logs")
    write = launching.write_properties

    def with_fault(path: Path, state: State) -> None:
        write(path, state)
        path.write_text(path.read_text() + wrong + "\n")

    monkeypatch.setattr(launching, "write_properties", with_fault)
    server.start(tiny_site.archive, free_ports())
    try:
        with pytest.raises(ServerError, match=f"(?s)ended at once.*{says}"):
            server.wait_ready(b"x", READY_SECONDS)
    finally:
        end(server)


@pytest.mark.parametrize("state", ["", "{}", "null", '{"model": "a", "po'])
def test_a_damaged_state_is_told_in_a_sentence_and_cleared_by_stop(
    tmp_path: Path, state: str
) -> None:
    (tmp_path / "state.json").write_text(state)
    server = Server(tmp_path, tmp_path)
    with pytest.raises(ServerError, match=r"state\.json is damaged; `make stop` clears it"):
        server.state.in_words()
    assert server.stop() is False
    with pytest.raises(NotRunningError, match="nothing is served"):
        server.state.in_words()


@pytest.mark.parametrize(
    ("ports", "says"),
    [
        (Ports(inference=99999), "99999 is no port; set PORT="),
        (Ports(management=8080), "the ports must differ"),
    ],
)
def test_impossible_ports_are_told(ports: Ports, says: str) -> None:
    with pytest.raises(ServerError, match=says):
        ports.check_free()


def test_a_port_in_use_is_named_before_anything_starts(tmp_path: Path, tiny_site: Site) -> None:
    taken = tiny_site.port("inference")
    server = Server(tmp_path / "run", tmp_path / "logs")
    with pytest.raises(ServerError, match=f"port {taken} is in use.*PORT="):
        server.start(tiny_site.archive, Ports(inference=taken))
    assert not server.running


def test_a_killed_server_starts_again_and_stop_leaves_nothing_behind(
    tmp_path: Path, tiny_site: Site
) -> None:
    server = Server(tmp_path / "run", tmp_path / "logs")
    server.start(tiny_site.archive, free_ports())
    server.wait_ready(b"x", READY_SECONDS)
    temp = temp_of(server)
    java, *family = server.family
    java.kill()
    psutil.wait_procs([java, *family], timeout=READY_SECONDS)
    assert not server.running
    server.start(tiny_site.archive, free_ports())
    try:
        assert not temp.exists()
        assert server.wait_ready(b"x", READY_SECONDS).status == 200
        temp = temp_of(server)
        family += server.family
    finally:
        assert server.stop() is True
    assert not any(process.is_running() for process in family)
    assert not temp.exists()
    assert not (server.run_dir / "key_file.json").exists()
    assert server.stop() is False


def temp_of(server: Server) -> Path:
    """The folder of a running TorchServe's sockets and unpacked archives."""
    return Path(json.loads((server.run_dir / "state.json").read_text())["temp"])


def test_the_commands_of_a_shell(
    tmp_path: Path,
    tiny_site: Site,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """start, status, predict, token, stop: what `make` calls.

    One in a process of its own, as `make` does it; the others here, where the imports are done.
    """
    config = tmp_path / "setup_config.json"
    settings = {"mode": "sequence_classification", "archive_name": "under_test"}
    config.write_text(json.dumps({"model_name": str(tiny_site.checkpoint), **settings}))
    ports = [f"--{k.replace('_', '-')}-port={v}" for k, v in vars(free_ports()).items()]
    places = ["--run-dir", str(tmp_path / "run"), "--log-dir", str(tmp_path / "logs")]
    common = [*places, "--model-store", str(tiny_site.archive.parent)]

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["torchscript_bundle", *common, *arguments])
        return main(), *capsys.readouterr()

    assert run("status")[0] == 3
    assert "make serve" in run("token")[2]
    start = ["start", "--timeout", str(READY_SECONDS), "--config", str(config)]
    try:
        command = [sys.executable, "-m", "torchscript_bundle", *common, *start, *ports]
        started = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert started.returncode == 0, started.stderr
        assert "serving at http://127.0.0.1" in started.stdout
        token = run("token")[1].strip()
        assert token
        assert token not in started.stdout
        assert '"label"' in run("predict", "--config", str(config), "It works.")[1]
        other = ["--config", str(ROOT / "setup_config.json")]
        assert "under_test is served" in run("predict", *other, "It works.")[2]
        status, _, says = run(*start, *ports)
        assert status == 1
        assert "already running" in says
        taken = [*ports[:-1], f"--grpc-management-port={tiny_site.port('inference')}"]
        assert "is in use" in run(*start, "--restart", *taken)[2]
        assert run("status")[0] == 0, "the running server was stopped for nothing"
    finally:
        assert run("stop")[1].strip() == "stopped"
