"""The image, built of the Dockerfile on a base that is made here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.exports import Exports
from tests.image.engine import Engine, missing
from torchscript_bundle.export.archive import pack
from torchscript_bundle.export.config import load_config
from torchscript_bundle.server import ROOT

BASE, TAG = "localhost/base", "localhost/torchscript-bundle"
#: pip's settings that say where packages come from, by the variables that the Dockerfile takes.
PLACES = ("index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "cert")
#: As Debian's own small images are: without documents and what is only recommended.
DEBIAN = (
    *("--variant=minbase", '--aptopt=APT::Install-Recommends "false"'),
    *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--image", action="store_true", help="build the image, and run it")


@pytest.fixture(scope="session")
def engine(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """Podman with a store of its own, which is removed at the end."""
    if not pytestconfig.getoption("--image", default=False):
        pytest.skip("needs root, Podman and minutes: make test-image")
    if lacks := missing():
        pytest.fail(lacks)
    engine = Engine(tmp_path_factory.mktemp("engine"))
    yield engine
    engine.clear()


@pytest.fixture(scope="session")
def base(engine: Engine) -> str:
    """Debian, as the image that the Dockerfile names has it."""
    packed = engine.folder / "base.tar"
    engine.run("mmdebstrap", *DEBIAN, "bookworm", str(packed))
    engine.run("podman", "import", str(packed), BASE)
    packed.unlink()
    return BASE


@pytest.fixture(scope="session")
def build(engine: Engine, base: str) -> Callable[..., str]:
    """What `make image` builds, with some of its settings; by `TAG`."""
    settings, volumes = _pip(engine.folder)

    def build(tag: str = TAG, *given: str) -> str:
        flags = f"IMAGE=--isolation chroot --pull=never {' '.join(volumes)}"
        places = ("ENGINE=podman", f"BASE={base}", f"TAG={tag}", flags)
        engine.run("make", "-C", str(ROOT), "image", *places, *given, **settings)
        return tag

    return build


@pytest.fixture(scope="session")
def image(build: Callable[..., str]) -> str:
    """The image without a model."""
    return build()


@pytest.fixture(scope="session")
def archive(
    exports: Exports, checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A tiny model's archive."""
    folder = tmp_path_factory.mktemp("archive")
    facts = {"model_name": str(checkpoint("bert")), "archive_name": "tiny"}
    path = folder / "setup_config.json"
    path.write_text(json.dumps({**facts, "mode": "sequence_classification"}))
    config = load_config(path)
    made = exports.write(config, checkpoint("bert"), folder / "artifact")
    return pack(made, folder, config)


def _pip(folder: Path) -> tuple[dict[str, str], list[str]]:
    """Return this machine's settings of pip as variables, and volumes of paths in them."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    pairs = (line.partition("=") for line in listed.splitlines())
    found = {key.rpartition(".")[2]: value.strip("'\"") for key, _, value in pairs}
    places = {key: value for key, value in found.items() if key in PLACES}
    words = [word for value in places.values() for word in value.split()]
    # The pages of an index name files beside its folder.
    indexes = [Path(word.removeprefix("file://")).parent for word in words if "://" in word]
    folders = {
        path for path in (*indexes, *map(Path, words)) if path.is_absolute() and path.is_dir()
    }
    volumes = [f"--volume {path}:{path}:ro" for path in sorted(folders)]
    if "cert" in places:
        # Not over the image's own, which Debian's package writes.
        (folder / "cert.pem").write_bytes(Path(places["cert"]).read_bytes())
        volumes.append(f"--volume {folder}/cert.pem:/mnt/cert.pem:ro")
        places["cert"] = "/mnt/cert.pem"
    return {f"PIP_{key.upper().replace('-', '_')}": value for key, value in places.items()}, volumes
