"""What each key opens: a server as server/config.properties starts it, asked with each of them.

docs/operating.md has the table.
"""

from __future__ import annotations

import http.server
import json
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import grpc
import pytest

from tests.integration.conftest import Site
from tests.wrong import wire
from torchscript_bundle.server import Answer

MANAGEMENT = "org.pytorch.serve.grpc.management.ManagementAPIsService"
#: A handler of a workflow: the code that must not run.
HANDLER = "open({marker!r}, 'w').close()\ndef node(data, context):\n    return data\n"
SPEC = "models:\n  min-workers: 1\n  max-workers: 1\ndag:\n  node: []\n"
#: How long registered code would have to run, were it registered.
RUN_SECONDS = 5.0


def ask(
    site: Site, port: str, method: str, path: str, key: str | None, body: bytes = b""
) -> Answer:
    """The answer to a request with one of the keys, or without."""
    token = [("Authorization", f"Bearer {site.server.token(key)}".encode())] if key else []
    return wire.receive(wire.send(site.port(port), path, token, body, method))


def field(number: int, value: str | int) -> bytes:
    """A field of a protobuf message, as the wire has it."""
    if isinstance(value, int):
        return bytes((number << 3, value))
    return bytes((number << 3 | 2, len(value))) + value.encode()


def call(site: Site, method: str, message: bytes, key: str | None) -> grpc.StatusCode:
    """The status of a call to the gRPC management service."""
    token = (("authorization", f"Bearer {site.server.token(key)}"),) if key else ()
    with grpc.insecure_channel(f"127.0.0.1:{site.port('grpc_management')}") as channel:
        try:
            channel.unary_unary(f"/{MANAGEMENT}/{method}")(message, metadata=token, timeout=60)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


@pytest.fixture
def site(tiny_site: Site) -> Site:
    return tiny_site


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[tuple[str, str, Callable[[], bool]]]:
    """A workflow whose handler leaves a file: its addresses (web, file), and whether it ran."""
    marker = tmp_path / "ran"
    (tmp_path / "files").mkdir()
    facts = {"workflowName": "evil", "specFile": "spec.yaml", "handler": "handler.py"}
    manifest = {"createdOn": "1", "archiverVersion": "1", "runtime": "python", "workflow": facts}
    with zipfile.ZipFile(tmp_path / "files" / "evil.war", "w") as archive:
        archive.writestr("WAR-INF/MANIFEST.json", json.dumps(manifest))
        archive.writestr("spec.yaml", SPEC)
        archive.writestr("handler.py", HANDLER.format(marker=str(marker)))
    asked: list[str] = []

    class Web(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path / "files"))  # type: ignore[arg-type]

        def log_message(self, format: str, *arguments: object) -> None:
            asked.append(format % arguments)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield (
            f"http://127.0.0.1:{web.server_port}/evil.war",
            f"file://{tmp_path}/files/evil.war",
            lambda: bool(asked) or marker.exists(),
        )
        web.shutdown()


def test_no_code_can_be_registered(
    site: Site, workflow: tuple[str, str, Callable[[], bool]]
) -> None:
    """By whom it may be: as a workflow, as a model, from the web, from a file, from the store."""
    web, file, ran = workflow
    for key in (None, "inference", "management", "API"):
        for url in (web, file, file.replace("file", "FILE", 1), "evil.war", "../evil.war"):
            given = quote(url, safe="")
            for path in (f"/workflows?url={given}", f"/models?url={given}&initial_workers=1"):
                for port in ("management", "inference", "metrics"):
                    assert ask(site, port, "POST", path, key).status >= 400, (key, port, path)
        registered = call(site, "RegisterModel", field(9, web) + field(3, 1), key)
        assert registered == grpc.StatusCode.PERMISSION_DENIED
    time.sleep(RUN_SECONDS)
    assert not ran()
    assert ask(site, "management", "GET", "/workflows", "management").json()["workflows"] == []
    assert len(ask(site, "management", "GET", "/models", "management").json()["models"]) == 1


def test_the_model_cannot_be_removed(site: Site) -> None:
    for key in (None, "inference", "management", "API"):
        for path in ("/models/under_test", "/models/under_test/1.0"):
            assert ask(site, "management", "DELETE", path, key).status >= 400
        removed = call(site, "UnregisterModel", field(1, "under_test"), key)
        assert removed == grpc.StatusCode.PERMISSION_DENIED
    assert site.server.predict(b"x").status == 200


@pytest.mark.parametrize("key", [None, "inference", "API"])
def test_workers_are_scaled_with_the_management_key_alone(site: Site, key: str | None) -> None:
    for port in ("management", "inference", "metrics"):
        path = "/models/under_test?min_worker=0&synchronous=true"
        assert ask(site, port, "PUT", path, key).status >= 400
    scaled = call(site, "ScaleWorker", field(1, "under_test") + field(4, 2), key)
    assert scaled == grpc.StatusCode.PERMISSION_DENIED
    assert [each["status"] for each in site.server.describe()[0]["workers"]] == ["READY"]


@pytest.mark.parametrize("key", [None, "management", "API"])
def test_predictions_are_made_with_the_inference_key_alone(site: Site, key: str | None) -> None:
    for path in ("/predictions/under_test", "/ping", "/v2/health/ready"):
        assert ask(site, "inference", "POST", path, key, b"x").status == 400


def test_keys_are_renewed_with_the_api_key_alone(site: Site) -> None:
    before = site.server.token("inference")
    for key in (None, "inference", "management"):
        assert ask(site, "management", "GET", "/token?type=inference", key).status == 400
    assert site.server.token("inference") == before
    assert ask(site, "management", "GET", "/token?type=inference", "API").status == 200
    assert site.server.token("inference") != before
    assert site.server.predict(b"x").status == 200


def test_keys_and_state_are_in_a_folder_of_their_owner(site: Site) -> None:
    """TorchServe writes its keys first, and takes others' rights to them after that."""
    state = json.loads((site.server.run_dir / "state.json").read_text())
    for folder in (site.server.run_dir, state["temp"]):
        assert Path(folder).stat().st_mode & 0o077 == 0
