"""The document from a live server's describe call, and schemathesis against that server."""

from __future__ import annotations

import json
import subprocess
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from tests.integration.helpers import serving
from tests.serving.helpers import EACH_MODE
from torchscript_bundle.export.archive import pack
from torchscript_bundle.export.config import load_config
from torchscript_bundle.server import ROOT, Server

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
#: The name of another model, which APIs of others have in the body, gets 404, or 424 where
#: text-embeddings-inference's errors are given.
REJECTED = ["400", "404", "413", "415", "422", "424"]
#: What TorchServe itself answers to a form whose field has no name, before any handler.
UNREADABLE_FORM = '"ErrorDataDecoderException"'


def described(server: Server) -> dict[str, Any]:
    """The document as the management address gives it."""
    url = f"{address(server, 'management')}/models/{server.model}?customized=true"
    [answer] = server.request("GET", url, "management").json()
    return dict(answer["customizedMetadata"]["openapi"])


def address(server: Server, listener: str) -> str:
    ports = json.loads((server.run_dir / "state.json").read_text())["ports"]
    return f"http://127.0.0.1:{ports[listener]}"


def try_out(server: Server, paths: list[str], examples: int) -> tuple[Counter[str], list[str]]:
    """Sends what schemathesis makes of the document: how often each check ran, and what failed."""
    config = SchemathesisConfig.from_dict(
        {
            "seed": 1,
            "continue-on-failure": True,
            "base-url": address(server, "inference"),
            "headers": {"Authorization": f"Bearer {server.token('inference')}"},
            "checks": {
                "enabled": False,
                **{name: {"enabled": True} for name in CHECKS},
                "negative_data_rejection": {"enabled": True, "expected-statuses": REJECTED},
            },
            "generation": {"max-examples": examples, "deterministic": True, "database": "none"},
            "phases": {"stateful": {"enabled": False}},
        }
    )
    schema = schemathesis.openapi.from_dict(described(server), config=config).include(path=paths)
    ran: Counter[str] = Counter()
    failed: list[str] = []
    for event in from_schema(schema).execute():
        assert not isinstance(event, events.NonFatalError | events.FatalError), event
        if isinstance(event, events.ScenarioFinished):
            for check, failure in results(event):
                ran[check] += 1
                failed += failure
    return ran, failed


def results(event: events.ScenarioFinished) -> Iterator[tuple[str, list[str]]]:
    """Each check of a scenario, with a line about what was wrong (without headers: no key)."""
    for case, checks in event.recorder.checks.items():
        exchange = event.recorder.interactions[case]
        body = exchange.response.content.decode() if exchange.response else ""
        for check in checks:
            failure = check.failure_info and check.failure_info.failure
            wrong = failure and UNREADABLE_FORM not in body
            sent = exchange.request.body
            yield check.name, [f"{check.name}: {failure}; {sent!r}; {body}"] if wrong else []


def check_server(server: Server, paths: list[str], examples: int) -> None:
    ran, failed = try_out(server, paths, examples)
    assert failed == []
    assert {*CHECKS, "negative_data_rejection"} <= {name for name, times in ran.items() if times}
    assert min(ran.values()) > 4 * examples


@pytest.fixture
def archive(
    checkpoint: Callable[[str], Path], artifact: Callable[[str], Path], tmp_path: Path
) -> Callable[[str], Path]:
    """A name of `tests.conftest.CHECKPOINTS` -> its archive."""
    return lambda name: pack(
        artifact(name),
        tmp_path / "store",
        load_config(checkpoint(name) / "setup_config.json"),
    )


def test_a_server_keeps_to_the_document_that_it_gives(
    archive: Callable[[str], Path], tmp_path: Path
) -> None:
    path = archive("bert")
    with serving(tmp_path, path, EACH_MODE["bert"]) as server:
        api = described(server)
        with zipfile.ZipFile(path) as content:
            assert json.loads(content.read("openapi.json")) == api
        assert server.address.endswith(next(iter(api["paths"])))
        assert pasted(server, tmp_path) == api
        check_server(server, list(api["paths"])[:1], examples=10)
        assert server.token("inference") not in logs(server)


def pasted(server: Server, folder: Path) -> Any:
    """What the command in docs/requests.md writes, with this server's addresses."""
    page = (ROOT / "docs" / "requests.md").read_text(encoding="utf-8")
    command = page.split("## The OpenAPI document")[1].split("```sh\n")[1].split("```")[0]
    command = (
        command.replace(".server/key_file.json", str(server.run_dir / "key_file.json"))
        .replace("http://127.0.0.1:8081", address(server, "management"))
        .replace("/models/reviews", f"/models/{server.model}")
    )
    subprocess.run(["bash", "-euc", command], cwd=folder, check=True)
    return json.loads((folder / "openapi.json").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("name", EACH_MODE)
def test_every_mode_keeps_to_its_document_at_every_address(
    archive: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    with serving(tmp_path, archive(name), EACH_MODE[name]) as server:
        check_server(server, list(described(server)["paths"]), examples=50)


def logs(server: Server) -> str:
    return "".join(path.read_text(errors="replace") for path in server.log_dir.glob("*.log"))
