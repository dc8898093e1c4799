"""The server itself: keys, addresses, logs, failures, recovery."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import transformers

from tests.integration.conftest import Site, build
from torchscript_bundle.server import ROOT, Ports, Server, ServerError


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


def test_models_cannot_be_registered(tiny_site: Site) -> None:
    url = f"http://127.0.0.1:{tiny_site.port('management')}/models?url=under_test.mar"
    assert tiny_site.server.request("POST", url, "management", body=b"").status >= 400


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
    before = [tiny_site.metric(name) for name in ("ComputedTokens", "PaddingTokens")]
    answer = tiny_site.server.predict(json.dumps(texts).encode(), content_type="application/json")
    assert answer.status == 200
    deadline = time.monotonic() + 10
    while (computed := tiny_site.metric("ComputedTokens") - before[0]) == 0:
        assert time.monotonic() < deadline, "the metric does not move"
        time.sleep(0.1)
    time.sleep(0.3)
    padding = tiny_site.metric("PaddingTokens") - before[1]
    assert computed - padding == real
    assert 0 <= padding < real


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"zebrafish in plain sight", "text/plain"),
        (b'{"text": "zebrafish", "zebrafish": 1}', "application/json"),
        (b'{"text": "zebrafish', "application/json"),
        (b'{"text": "zebrafish \\ud800"}', "application/json"),
        (b"zebrafish \xff", "text/plain"),
        (b"zebrafish=zebrafish", "application/x-www-form-urlencoded"),
        (b"zebrafish", "image/zebrafish"),
    ],
)
def test_request_texts_are_never_logged(tiny_site: Site, body: bytes, content_type: str) -> None:
    answer = tiny_site.server.predict(body, content_type=content_type)
    assert answer.status < 500
    time.sleep(0.3)
    assert "zebrafish" not in tiny_site.logs()


@pytest.mark.parametrize(
    ("query", "body", "content_type"),
    [
        ("", b"data=zebrafish was 100% great", "application/x-www-form-urlencoded"),
        ("", b"zebrafish 100% x", "application/x-www-form-urlencoded"),
        (
            "",
            b'--xx\r\nContent-Disposition: form-data; name="data"\r\n'
            b"Content-Type: text/plain; charset=zebrafish\r\n\r\nzebrafish\r\n--xx--\r\n",
            "multipart/form-data; boundary=xx",
        ),
        ("?text=zebrafish", b"x", "text/plain"),
    ],
)
def test_torchserve_itself_does_not_log_them(
    tiny_site: Site, query: str, body: bytes, content_type: str
) -> None:
    """What it cannot parse it answers with a 500 of its own, before any handler."""
    headers = {"Content-Type": content_type}
    url = tiny_site.server.address + query
    tiny_site.server.request("POST", url, "inference", body=body, headers=headers)
    time.sleep(0.3)
    assert "zebrafish" not in tiny_site.logs()
    assert tiny_site.logs()


def test_two_workers_hold_weights_once(demo_archive: Path, start_site: Callable[..., Site]) -> None:
    site = start_site(ROOT / "demo" / "model", demo_archive, workers=2)
    deadline = time.monotonic() + 60
    while {worker["status"] for worker in site.server.describe()[0]["workers"]} != {"READY"}:
        assert time.monotonic() < deadline, "a worker is not ready"
        time.sleep(0.2)
    maps = [Path(f"/proc/{pid}/maps").read_text().splitlines() for pid in site.server.worker_pids]
    shared = [{line.split()[4] for line in lines if "shared_weights_" in line} for lines in maps]
    assert [len(inodes) for inodes in shared] == [1, 1]
    assert shared[0] == shared[1]
    assert site.server.plan().startswith("2 worker(s) with ")
    assert site.server.predict(b"It works.").status == 200


def test_a_killed_worker_costs_its_batch_alone(
    tmp_path: Path, tiny_site: Site, start_site: Callable[..., Site]
) -> None:
    """Under load: the batch in flight gets 507 or 500, others are answered, service goes on.

    Which of them is TorchServe's choice: 500 where it was still writing to the worker.
    """
    archive = build(tmp_path, tiny_site.checkpoint, max_length=64, batch_size=2, max_batch_delay=1)
    site = start_site(tiny_site.checkpoint, archive)
    [victim] = site.server.worker_pids
    statuses: list[tuple[float, int]] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            status = site.server.predict(b"hour " * 60).status
            statuses.append((time.monotonic(), status))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    # Freeze it first, so that a batch is surely in flight when it dies.
    os.kill(victim, signal.SIGSTOP)
    time.sleep(0.3)
    os.kill(victim, signal.SIGKILL)
    killed = time.monotonic()
    while not any(at > killed and status == 200 for at, status in statuses):
        assert time.monotonic() - killed < 60, "the server did not recover"
        time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    recovered = min(at for at, status in statuses if at > killed and status == 200) - killed
    print(f"first answer {recovered:.1f} s after the kill; {Counter(s for _, s in statuses)}")
    counts = Counter(status for _, status in statuses)
    assert set(counts) <= {200, 500, 507}
    assert 1 <= counts[500] + counts[507] <= 2
    assert site.server.worker_pids != [victim]


def test_a_worker_that_cannot_load_is_reported_in_its_own_words(
    tmp_path: Path, tiny_site: Site
) -> None:
    broken = tmp_path / "broken.mar"
    with zipfile.ZipFile(tiny_site.archive) as source, zipfile.ZipFile(broken, "w") as target:
        for name in source.namelist():
            changed = b" " if name == "tokenizer.json" else b""
            target.writestr(name, source.read(name) + changed)
    server = Server(tmp_path / "run", tmp_path / "logs")
    server.start(broken, Ports.free())
    try:
        with pytest.raises(ServerError, match=r"tokenizer\.json is not the file.*sha256"):
            server.wait_ready(b"x", 60)
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [("vmargs=-XX:NoSuchFlag", "NoSuchFlag"), ("metrics_address=http://127.0.0.1:none", "none")],
)
def test_a_torchserve_that_ends_at_once_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_site: Site, wrong: str, says: str
) -> None:
    """On its console where Java itself refuses, in its log where TorchServe does."""
    server = Server(tmp_path / "run", tmp_path / "logs")
    write = Server._write_properties

    def with_fault(self: Server, ports: Ports, workers: int) -> Path:
        path = write(self, ports, workers)
        path.write_text(path.read_text() + wrong + "\n")
        return path

    monkeypatch.setattr(Server, "_write_properties", with_fault)
    server.start(tiny_site.archive, Ports.free())
    try:
        with pytest.raises(ServerError, match=f"(?s)ended at once.*{says}"):
            server.wait_ready(b"x", 60)
    finally:
        server.stop()


def test_a_damaged_archive_is_told_before_anything_starts(tmp_path: Path, tiny_site: Site) -> None:
    content = bytearray(tiny_site.archive.read_bytes())
    server = Server(tmp_path / "run", tmp_path / "logs")
    cut = tmp_path / "cut.mar"
    cut.write_bytes(content[: len(content) // 2])
    content[len(content) // 2] ^= 1
    flipped = tmp_path / "flipped.mar"
    flipped.write_bytes(content)
    for archive in (cut, flipped):
        with pytest.raises(ServerError, match=f"{archive.name} is damaged"):
            server.start(archive, Ports.free())
    assert not server.running


@pytest.mark.parametrize("state", ["", "{}", "null"])
def test_a_damaged_state_is_told_in_a_sentence(tmp_path: Path, state: str) -> None:
    (tmp_path / "state.json").write_text(state)
    with pytest.raises(ServerError, match=r"state\.json is damaged; delete it"):
        Server(tmp_path, tmp_path).stop()


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


def test_a_killed_server_starts_again(tmp_path: Path, tiny_site: Site) -> None:
    server = Server(tmp_path / "run", tmp_path / "logs")
    server.start(tiny_site.archive, Ports.free())
    server.wait_ready(b"x", 60)
    temp = Path(json.loads((server.run_dir / "state.json").read_text())["temp"])
    java, *family = server._processes()
    java.kill()
    psutil.wait_procs([java, *family], timeout=30)
    assert not server.running
    server.start(tiny_site.archive, Ports.free())
    try:
        assert not temp.exists()
        assert server.wait_ready(b"x", 60).status == 200
    finally:
        server.stop()
    assert not any(process.is_running() for process in family)


def test_stop_leaves_nothing_behind(tmp_path: Path, tiny_site: Site) -> None:
    server = Server(tmp_path / "run", tmp_path / "logs")
    server.start(tiny_site.archive, Ports.free())
    server.wait_ready(b"x", 60)
    temp = Path(json.loads((server.run_dir / "state.json").read_text())["temp"])
    pids = [process.pid for process in server._processes()]
    assert server.stop() is True
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert not temp.exists()
    assert not (server.run_dir / "key_file.json").exists()
    assert server.stop() is False


def test_the_commands_of_a_shell(tmp_path: Path, tiny_site: Site) -> None:
    """start, status, predict, token, stop: what `make` calls."""
    config = tmp_path / "setup_config.json"
    config.write_text(
        json.dumps(
            {
                "model_name": str(tiny_site.checkpoint),
                "mode": "sequence_classification",
                "archive_name": "under_test",
            }
        )
    )
    ports = [f"--{k.replace('_', '-')}-port={v}" for k, v in vars(Ports.free()).items()]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        places = ["--run-dir", str(tmp_path / "run"), "--log-dir", str(tmp_path / "logs")]
        store = ["--model-store", str(tiny_site.archive.parent)]
        command = [sys.executable, "-m", "torchscript_bundle", *places, *store, *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert run("status").returncode == 1
    assert "make serve" in run("token").stderr
    try:
        started = run("start", "--config", str(config), *ports)
        assert started.returncode == 0, started.stderr
        assert "serving at http://127.0.0.1" in started.stdout
        token = run("token").stdout.strip()
        assert token
        assert token not in started.stdout
        predicted = run("predict", "--config", str(config), "It works.")
        assert '"label"' in predicted.stdout
        assert "under_test is served" in run("predict", "It works.").stderr
        again = run("start", "--config", str(config), *ports)
        assert again.returncode == 1
        assert "already running" in again.stderr
        taken = [*ports[:-1], f"--grpc-management-port={tiny_site.port('inference')}"]
        refused = run("start", "--restart", "--config", str(config), *taken)
        assert "is in use" in refused.stderr
        assert run("status").returncode == 0, "the running server was stopped for nothing"
    finally:
        assert run("stop").stdout.strip() == "stopped"
