"""The image as users build and run it: small, without rights, and no request lost at its end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.image.engine import STATE, USER, Container, Engine
from torchscript_bundle.server import ROOT

MOST_BYTES = 1.2e9
#: Until clients have sent something.
LOAD_SECONDS = 3


@pytest.fixture(scope="module")
def container(
    engine: Engine, image: str, archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Container]:
    """The image with an archive mounted, another user, and a folder for what it writes."""
    state = tmp_path_factory.mktemp("state")
    os.chown(state, USER, USER)
    container = Container(
        *(engine, image, f"--user={USER}:{USER}", "--passwd=false"),
        *(f"--volume={archive}:/models/tiny.mar:ro", f"--volume={state}:{STATE}"),
    )
    container.wait_ready()
    return container


def test_the_dockerfile_is_clean(engine: Engine) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    said = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (0, "")


def test_it_is_small_and_says_what_it_is(engine: Engine, image: str) -> None:
    facts = engine.inspect(image)
    print(f"{image}: {facts['Size'] / 1e6:.0f} MB")
    assert facts["Size"] < MOST_BYTES
    assert facts["Config"]["User"] == "10001:10001"
    assert facts["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_it_answers(container: Container) -> None:
    status, answer = container.ask(8080, "/predictions/tiny", "good")
    assert (status, set(json.loads(answer))) == (200, {"label", "score"})
    assert container.ask(8090, "/live")[0] == 200


def test_none_of_its_processes_has_a_right(container: Container) -> None:
    processes = container.processes
    assert len(processes) > 4  # tini, the supervisor, nginx, Java, a worker
    for process in processes:
        lines = (line.split() for line in (process / "status").read_text().splitlines())
        facts = {name: values for name, *values in lines}
        assert set(facts["Uid:"]) == set(facts["Gid:"]) == {str(USER)}
        assert {int(facts[f"Cap{kind}:"][0], 16) for kind in ("Prm", "Eff", "Bnd", "Amb")} == {0}
        assert facts["NoNewPrivs:"] == ["1"]


@pytest.mark.parametrize("place", ["/", "/tmp", "/opt/torchscript-bundle", "/models"])
def test_it_writes_in_one_place_alone(container: Container, place: str) -> None:
    assert container.execute(["touch", f"{STATE}/written"]) == 0
    assert container.execute(["touch", f"{place}/written"]) != 0


def test_sigterm_loses_no_request(container: Container) -> None:
    """Clients go on until `/ready` says no, as behind a load balancer."""
    url, ready = "http://127.0.0.1:8080/predictions/tiny", "http://127.0.0.1:8090/ready"
    client = container.client("load", url, ready)
    time.sleep(LOAD_SECONDS)
    container.engine.run("podman", "stop", "--time", "100", container.id)
    said, _ = client.communicate()
    print(said)
    got = json.loads(said)
    # Where others have the cores, a worker may answer that it is too busy.
    assert got.pop("200") > 0 and set(got) <= {"503"}
    assert container.state()["ExitCode"] == 0


def test_a_model_can_be_built_into_it(
    engine: Engine, build: Callable[..., str], archive: Path
) -> None:
    """The image's own user, and a volume that the engine makes."""
    put = ROOT / "model_store" / "test-image.mar"
    shutil.copy(archive, put)
    try:
        tag = build("localhost/with-model", f"MODEL={put.relative_to(ROOT)}")
    finally:
        put.unlink()
    container = Container(engine, tag)
    container.wait_ready()
    assert container.ask(8080, "/predictions/test-image", "good")[0] == 200
