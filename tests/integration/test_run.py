"""What clients, probes and operators see of `torchscript-bundle run`."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests import tiny
from tests.integration.helpers import free_ports, wait_until
from tests.integration.supervised import (
    BEARER,
    KEY,
    MANAGER,
    NO_NGINX,
    WHY,
    Load,
    Supervised,
    running,
    write_keys,
)
from torchscript_bundle.__main__ import main
from torchscript_bundle.server.processes import is_worker
from torchscript_bundle.supervisor.keys import VARIABLE
from torchscript_bundle.supervisor.lane import BATCHES

pytestmark = pytest.mark.skipif(NO_NGINX, reason=WHY)

TEXT = b"Is anybody there?"
PATH = "/predictions/under_test"
BATCH = 8
CAPACITY = BATCHES * BATCH


@pytest.fixture(scope="module")
def archives(
    build: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Two archives of one name, whose answers differ."""
    made = {}
    for name, max_length in (("first", 64), ("second", 4)):
        folder = tmp_path_factory.mktemp(name)
        checkpoint = tiny.save_checkpoint(folder / "checkpoint")
        made[name] = build(folder, checkpoint, max_length=max_length, batch_size=BATCH)
    return made


@pytest.fixture(scope="module")
def store(archives: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    put(archives["first"], folder)
    return folder


def put(archive: Path, folder: Path) -> None:
    """Replace an archive as an operator does: whole or not at all."""
    fresh = folder / "under_test.fresh"
    shutil.copy(archive, fresh)
    fresh.replace(folder / "under_test.mar")


@pytest.fixture(scope="module")
def supervised(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    with running(tmp_path_factory.mktemp("run"), "--models", str(store)) as started:
        yield started


@contextmanager
def frozen(processes: list[psutil.Process]) -> Iterator[None]:
    """Stop processes for a while."""
    assert processes
    for each in processes:
        each.suspend()
    try:
        yield
    finally:
        for each in processes:
            each.resume()


def begin(stack: ExitStack, supervised: Supervised) -> socket.socket:
    """Send a request, and leave its answer for later."""
    client = stack.enter_context(socket.create_connection(("127.0.0.1", supervised.port), 60))
    client.sendall(
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: {BEARER['Authorization']}\r\n"
        f"Content-Type: text/plain\r\nContent-Length: {len(TEXT)}\r\n\r\n".encode()
        + TEXT
    )
    return client


def java(supervised: Supervised) -> list[psutil.Process]:
    family = psutil.process_iter(["name", "cmdline"])
    here = str(supervised.folder)
    return [
        each
        for each in family
        if each.info["name"] == "java" and any(here in word for word in each.info["cmdline"])
    ]


def test_answers_are_torchserves_own(supervised: Supervised) -> None:
    answer = supervised.predict(TEXT)
    assert answer.status == 200
    assert set(answer.json()) == {"label", "score"} or isinstance(answer.json(), list)
    as_json = json.dumps({"inputs": TEXT.decode()}).encode()
    headers = {**BEARER, "Content-Type": "application/json"}
    assert supervised.send(PATH, as_json, headers).status == 200
    listed = {"instances": [{"data": TEXT.decode()}]}
    v1 = supervised.send("/v1/models/under_test:predict", json.dumps(listed).encode(), headers)
    assert v1.json()["predictions"] == [answer.json()]


@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Basic eDp5", f"Bearer {MANAGER}"])
def test_without_a_key_of_clients_nothing_is_answered(
    authorization: str | None, supervised: Supervised
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = supervised.send(PATH, TEXT, headers)
    assert answer.status == 401
    assert "Authorization: Bearer KEY" in answer.json()["error"]


def test_keys_change_without_a_restart(supervised: Supervised) -> None:
    write_keys(supervised.keys, inference="another-key-" + "y" * 20, management=MANAGER)
    wait_until(lambda: supervised.predict(TEXT).status == 401, "the old key stays valid")
    write_keys(supervised.keys, inference=BEARER["Authorization"].split()[1], management=MANAGER)
    wait_until(lambda: supervised.predict(TEXT).status == 200, "the key is not valid again")


@pytest.mark.parametrize(
    ("path", "headers", "status", "said"),
    [
        ("/predictions/other", {}, 404, "models here: under_test"),
        ("/elsewhere", {}, 404, "models here: under_test"),
        (PATH, {"X-Request-Timeout": "soon"}, 400, "X-Request-Timeout should be"),
        (PATH, {"X-Request-Timeout": "-1"}, 400, "X-Request-Timeout should be"),
    ],
)
def test_what_cannot_be_served_gets_a_sentence(
    path: str, headers: dict[str, str], status: int, said: str, supervised: Supervised
) -> None:
    answer = supervised.send(path, TEXT, {**BEARER, **headers})
    assert answer.status == status
    assert said in answer.json()["error"]


def test_a_body_over_the_bound_gets_a_sentence(supervised: Supervised) -> None:
    answer = supervised.predict(b"x" * (1 << 20 | 1))
    assert answer.status == 413
    assert "over 1048576 bytes" in answer.json()["error"]


@pytest.mark.parametrize(
    "head",
    [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Content-Length: 3\r\nContent-Length: 4",
        "Content-Length: 3, 3",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding : chunked",
    ],
)
def test_a_request_of_two_meanings_is_refused(head: str, supervised: Supervised) -> None:
    with socket.create_connection(("127.0.0.1", supervised.port), timeout=20) as client:
        begin = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: {BEARER['Authorization']}"
        client.sendall(f"{begin}\r\n{head}\r\n\r\n0\r\n\r\n".encode())
        status = int(client.recv(4096).split()[1])
    assert 400 <= status < 502


def test_probes_need_no_key_and_tell_the_truth(supervised: Supervised) -> None:
    for path in ("/live", "/ready", "/startup"):
        assert supervised.admin(path).status == 200
    for path in ("/ping", "/v2/health/live", "/v2/health/ready"):
        assert supervised.send(path, headers={}, method="GET").status == 200


def test_metrics_count_what_was_answered(supervised: Supervised) -> None:
    named = {"model": "under_test", "status": "200"}
    before = supervised.metric("torchscript_bundle_requests_total", **named)
    assert supervised.predict(TEXT).status == 200
    wait_until(
        lambda: supervised.metric("torchscript_bundle_requests_total", **named) == before + 1,
        "the request was not counted",
    )
    assert supervised.metric("torchscript_bundle_request_seconds_count", **named) >= before + 1
    assert supervised.metric("torchscript_bundle_ready", model="under_test") == 1
    assert supervised.metric("torchscript_bundle_running_requests", model="under_test") == 0
    assert supervised.metric("ts_inference_requests_total", model="under_test") > 0
    refused = supervised.metric("torchscript_bundle_refused_total", reason="unknown_model")
    supervised.predict(TEXT, "other")
    after = supervised.metric("torchscript_bundle_refused_total", reason="unknown_model")
    assert after == refused + 1


def test_a_new_archive_takes_over_and_a_damaged_one_does_not_without_a_lost_request(
    supervised: Supervised, store: Path, archives: dict[str, Path]
) -> None:
    with Load(supervised.port, 8, TEXT) as load:
        load.wait_for(50)
        put(archives["second"], store)
        supervised.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(load.bodies) == 2, "the new archive never answered")
        load.wait_for(50)
        (store / "under_test.mar").write_bytes(archives["first"].read_bytes()[:-1000])
        headers = {"Authorization": f"Bearer {MANAGER}"}
        failed = supervised.send("/-/reload", b"", headers)
        assert failed.status == 409
        assert "under_test.mar" in failed.json()["failed"][0]
        load.wait_for(50)
    assert set(load.statuses) == {200}
    assert supervised.is_ready()
    put(archives["first"], store)
    assert supervised.send("/-/reload", b"", headers).status == 200


def test_a_client_that_leaves_gives_up_its_place_in_the_queue(supervised: Supervised) -> None:
    [process] = java(supervised)
    workers = [each for each in process.children(recursive=True) if is_worker(each)]
    pending = partial(supervised.metric, "torchscript_bundle_pending_requests")
    with ExitStack() as clients:
        with frozen(workers):
            stay = [begin(clients, supervised) for _ in range(CAPACITY)]
            wait_until(
                lambda: supervised.metric("torchscript_bundle_running_requests") == CAPACITY,
                "they do not get their turns",
            )
            leave = [begin(clients, supervised) for _ in range(3)]
            wait_until(lambda: pending() == 3, "the others do not wait")
            for client in leave:
                client.close()
            wait_until(lambda: pending() == 0, "who left still waits")
            hurried = supervised.predict(TEXT, **{"X-Request-Timeout": "0.2"})
            assert hurried.status == 503
            assert "did not come within 0.2 s" in hurried.json()["error"]
        for client in stay:
            assert client.recv(100).startswith(b"HTTP/1.1 200 ")


def test_models_come_and_go_beside_others(
    supervised: Supervised, store: Path, archives: dict[str, Path]
) -> None:
    shutil.copy(archives["second"], store / "other.mar")
    headers = {"Authorization": f"Bearer {MANAGER}"}
    with Load(supervised.port, 2, TEXT) as load:
        assert supervised.send("/-/reload", b"", headers).status == 200
        assert supervised.predict(TEXT, "other").status == 200
        (store / "other.mar").unlink()
        assert supervised.send("/-/reload", b"", headers).status == 200
        assert supervised.predict(TEXT, "other").status == 404
        load.wait_for(20)
    assert set(load.statuses) == {200}
    assert supervised.is_ready()


def test_torchserve_starts_again_when_it_dies(supervised: Supervised) -> None:
    [process] = java(supervised)
    process.kill()
    wait_until(
        lambda: supervised.metric("torchscript_bundle_torchserve_restarts_total") == 1,
        "its death was not noticed",
    )
    assert supervised.predict(TEXT).status == 200  # it waits for its turn until there is one
    supervised.wait_ready()


def test_a_signal_ends_it_once_everything_is_answered(store: Path, tmp_path: Path) -> None:
    arguments = ("--models", str(store), "--unready-seconds", "3")
    with running(tmp_path, *arguments) as supervised, Load(supervised.port, 8, TEXT) as load:
        load.wait_for(50)
        supervised.process.send_signal(signal.SIGTERM)
        wait_until(lambda: supervised.admin("/ready").status == 503, "it stays ready")
        assert supervised.process.wait(60) == 0
    assert not java(supervised)
    # Who is slow to come again finds nobody there, or is just about not to (docs/running.md);
    # the exit status says that each request that was taken was answered.
    late = {"ConnectionRefusedError", "ConnectionResetError", "RemoteDisconnected"}
    assert set(load.statuses) <= {200, 503} | late
    assert sum(load.statuses[each] for each in late) <= 8


def test_the_commands_know_it(supervised: Supervised, capsys: pytest.CaptureFixture[str]) -> None:
    folders = ["--run-dir", str(supervised.folder / "run"), "--log-dir", str(supervised.folder)]
    main(["token", *folders])
    assert capsys.readouterr().out.strip() == KEY
    main(["status", *folders])
    assert f"serving at http://127.0.0.1:{supervised.port}" in capsys.readouterr().out
    assert main(["run", str(supervised.folder), *folders]) == 1
    assert "give another --run-dir" in capsys.readouterr().err


def test_serve_gives_it_other_archives_in_the_background(
    archives: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store, ports = tmp_path / "store", free_ports()
    store.mkdir()
    put(archives["first"], store)
    folders = ["--run-dir", str(tmp_path / "run"), "--log-dir", str(tmp_path / "logs")]
    flags = ["--inference-port", str(ports.inference), "--metrics-port", str(ports.metrics)]
    serve = ["serve", *flags, *folders, str(store / "under_test.mar")]
    keys = write_keys(tmp_path / "keys.json", inference=KEY, management=MANAGER)
    monkeypatch.setenv(VARIABLE, keys.read_text())
    try:
        command = [sys.executable, "-m", "torchscript_bundle", *serve]
        started = subprocess.run(command, capture_output=True, text=True, check=False)
        assert f"http://127.0.0.1:{ports.inference}/predictions" in started.stdout, started.stderr
        with Load(ports.inference, 8, TEXT) as load:
            load.wait_for(20)
            put(archives["second"], store)
            assert main(serve) == 0
            wait_until(lambda: len(load.bodies) == 2, "the new archive never answered")
            (store / "under_test.mar").unlink()
            (store / "under_test.mar").write_bytes(b"no archive")
            assert main(serve) == 1
            assert "under_test" in capsys.readouterr().err
            load.wait_for(20)
        assert set(load.statuses) == {200}
        assert main(["predict", *folders, "It works."]) == 0
        assert '"label"' in capsys.readouterr().out
        assert main([*serve, "--workers", "2"]) == 1
        assert "runs with other flags" in capsys.readouterr().err
    finally:
        assert main(["stop", *folders]) == 0


def test_what_a_killed_one_has_left_is_cleared_away(store: Path, tmp_path: Path) -> None:
    with running(tmp_path, "--models", str(store)) as killed:
        killed.process.kill()
        killed.process.wait()
        assert java(killed)
    [left] = java(killed)
    with running(tmp_path, "--models", str(store), "--unready-seconds", "0") as second:
        assert left.pid not in [each.pid for each in java(second)]
        folders = ["--run-dir", str(tmp_path / "run"), "--log-dir", str(tmp_path)]
        main(["stop", *folders])
        assert second.process.wait(10) == 0
    assert not java(second)
