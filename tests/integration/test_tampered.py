"""A server that runs goes on answering, whatever is wrong with the archive of its next start."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Site
from tests.integration.helpers import READY_SECONDS, end, free_ports
from tests.tampering import TAMPERED, added, resum
from torchscript_bundle.server import Demands, Server, ServerError

TEXT = b"We waited an hour for cold soup."


@pytest.fixture(scope="module")
def server(tiny_site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of this file alone, whose temporary files are in a folder of its own."""
    folder = tmp_path_factory.mktemp("tampered")
    place = Path(tempfile.mkdtemp(prefix="ts-"))  # short, for the sockets in it
    server = Server(folder / "run", folder / "logs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(place))
        server.start(tiny_site.archive, free_ports())
        server.wait_ready(TEXT, READY_SECONDS)
        yield server
        end(server)
    shutil.rmtree(place)


@pytest.fixture
def archive(tiny_site: Site, tmp_path: Path) -> Path:
    """A copy of its archive."""
    return Path(shutil.copy(tiny_site.archive, tmp_path / "under_test.mar"))


def refused(server: Server, archive: Path, demands: Demands | None = None) -> str:
    """Why a restart is refused; the server must answer as before, and nothing be left."""
    answer = server.predict(TEXT).body
    left = sorted(server.state.temp.parent.iterdir())
    family = {process.pid for process in server.family}
    with pytest.raises(ServerError) as refusal:
        server.start(archive, server.state.ports, restart=True, demands=demands or Demands())
    assert {process.pid for process in server.family} == family
    assert server.predict(TEXT).body == answer
    assert sorted(server.state.temp.parent.iterdir()) == left
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


@pytest.mark.parametrize("done", TAMPERED)
def test_a_tampered_archive_ends_nothing_and_runs_nowhere(
    server: Server, archive: Path, done: str
) -> None:
    tamper, says = TAMPERED[done]
    tamper(archive)
    assert says in refused(server, archive)


def test_nor_does_one_that_is_not_the_archive_which_is_demanded(
    server: Server, archive: Path, tmp_path: Path
) -> None:
    """Its code is one that would run: the list of digests was made anew."""
    good = hashlib.sha256(archive.read_bytes()).hexdigest()
    trace = tmp_path / "trace"
    added("sitecustomize.py", f"open({str(trace)!r}, 'w')".encode())(archive)
    resum(archive)
    assert f"not {good}; fetch the right one" in refused(
        server, archive, Demands(frozenset({good}))
    )
    key = tmp_path / "none.pub"
    assert f"{key} cannot be read" in refused(server, archive, Demands(signed_by=key))
    assert not trace.exists()


def test_a_run_folder_that_others_can_enter_is_refused(archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o755)
    server = Server(folder, tmp_path / "logs")
    with pytest.raises(ServerError, match=rf"`chmod 700 {folder}`, or .*--run-dir"):
        server.start(archive, free_ports())
    assert not server.running
