"""How an environment is made from a lock."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from deploy import install
from deploy.install import (
    Installer,
    InstallError,
    choose_torch,
    install_locks,
    make_environment,
    names_places,
    needs_cuda,
    read_settings,
    uv_installer,
)

UV = Path(sys.executable).parent / "uv"
needs_uv = pytest.mark.skipif(not UV.is_file(), reason="uv could not be had at set-up")


@pytest.mark.parametrize(
    ("asked", "nvidia", "configured", "locks", "pytorchs_index"),
    [
        ("auto", False, False, ["torch-cpu.lock"], True),
        ("auto", False, True, ["torch-cpu.lock", "torch.lock"], False),
        ("auto", True, False, ["torch.lock"], False),
        ("auto", True, True, ["torch.lock"], False),
        ("cpu", True, True, ["torch-cpu.lock"], True),
        ("cuda", False, False, ["torch.lock"], False),
    ],
)
def test_without_a_gpu_torch_is_the_cpu_build_where_it_can_be_had(
    asked: str, nvidia: bool, configured: bool, locks: list[str], pytorchs_index: bool
) -> None:
    sources = choose_torch(asked, nvidia=nvidia, configured=configured)
    assert [source.lock.name for source in sources] == locks
    index = "https://download.pytorch.org/whl/cpu" if pytorchs_index else None
    assert [source.index for source in sources] == [index] * len(sources)


def test_who_gets_gigabytes_is_told_how_not_to() -> None:
    for nvidia, configured in ((True, False), (False, True)):
        says = choose_torch("auto", nvidia=nvidia, configured=configured)[-1].says
        assert "several GB" in says and "TORCH=cpu" in says


@pytest.mark.parametrize(
    ("listing", "names"),
    [
        ("", False),
        ("global.timeout='60'\n:env:.disable-pip-version-check='1'\n", False),
        ("global.trusted-host='index-url'\n", False),
        (":env:.find-links='/srv/wheels'\n", True),
        ("global.cert='x'\nglobal.extra-index-url='https://example.org/simple'\n", True),
        ("install.index-url='https://example.org/simple'\n", True),
        ("download.index-url='https://example.org/simple'\n", False),
    ],
)
def test_pips_settings_tell_where_packages_come_from(listing: str, names: bool) -> None:
    assert names_places(read_settings(listing)) is names


def test_of_pips_settings_the_nearest_counts() -> None:
    listing = (
        ":env:.cert='/env'\nglobal.cert='/all'\ninstall.cert='/install'\n"
        "install.retries='3'\nglobal.retries='5'\nglobal.find-links='\\n/one\\n/two'\n"
    )
    assert read_settings(listing) == {"cert": "/env", "retries": "3", "find-links": "\n/one\n/two"}


def test_uv_is_told_what_pip_is_told() -> None:
    uv = uv_installer(
        Path("/env/bin/python"),
        {
            "index-url": "https://name:word@one.example/simple",
            "extra-index-url": "file:///two/simple\nhttps://three.example/simple",
            "find-links": "/four https://five.example/files",
            "no-index": "false",
            "trusted-host": "one.example three.example:8443",
            "cert": "/six.pem",
            "client-cert": "/seven.pem",
            "proxy": "http://eight.example:3128",
            "default-timeout": "180",
            "retries": "9",
            "constraint": "/nine.txt",
        },
    )
    assert uv.command[:3] == ("/env/bin/uv", "pip", "install")
    assert "--no-index" not in uv.command
    assert uv.variables == {
        "UV_INDEX_URL": "https://name:word@one.example/simple",
        "UV_EXTRA_INDEX_URL": "file:///two/simple https://three.example/simple",
        "UV_FIND_LINKS": "/four,https://five.example/files",
        "UV_INSECURE_HOST": "one.example three.example:8443",
        "SSL_CERT_FILE": "/six.pem",
        "SSL_CLIENT_CERT": "/seven.pem",
        "HTTP_PROXY": "http://eight.example:3128",
        "HTTPS_PROXY": "http://eight.example:3128",
        "UV_HTTP_TIMEOUT": "180",
        "UV_HTTP_RETRIES": "9",
    }
    assert uv_installer(Path("/env/bin/python"), {"no-index": "1"}).command[-1] == "--no-index"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with uv, an index with the package `sample`, and locks that name it."""
    root = tmp_path_factory.mktemp("install")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root / "env"], check=True)
    (root / "env/bin/uv").symlink_to(UV)  # dangles where there is none
    wheel = root / "index/simple/sample/sample-1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    metadata = "Metadata-Version: 2.1\nName: sample\nVersion: 1.0\n"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("sample.py", "")
        file.writestr("sample-1.0.dist-info/METADATA", metadata)
        file.writestr("sample-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        file.writestr("sample-1.0.dist-info/RECORD", "")
    (wheel.parent / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    for name, check in (
        ("right", f" --hash=sha256:{digest}"),
        ("wrong", f" --hash=sha256:{'0' * 64}"),
        ("none", ""),
    ):
        (root / f"{name}.lock").write_text(f"sample==1.0{check}\n")
    return root


def installed(environment: Path) -> bool:
    return any((environment / "env").glob("lib/*/site-packages/sample.py"))


def uv_with(environment: Path, **settings: str) -> Installer:
    for file in (environment / "env").glob("lib/*/site-packages/sample*"):
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    uv = uv_installer(environment / "env/bin/python", settings)
    return replace(uv, command=(*uv.command, "--no-cache", "--quiet"))


@needs_uv
@pytest.mark.parametrize("lock", ["wrong", "none"])
def test_a_file_of_another_hash_is_not_installed(environment: Path, lock: str) -> None:
    index = f"file://{environment}/index/simple"
    uv = uv_with(environment, **{"index-url": index})
    with pytest.raises(InstallError, match=rf"could not install .*{lock}\.lock"):
        install_locks([uv], [environment / f"{lock}.lock"])
    assert not installed(environment)


class PrivateIndex(SimpleHTTPRequestHandler):
    """A package index that asks for a name and a password."""

    def do_GET(self) -> None:
        if self.headers["Authorization"] == f"Basic {base64.b64encode(b'name:word').decode()}":
            return super().do_GET()
        self.send_response(401)
        self.send_header("WWW-Authenticate", "Basic")
        return self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the tests' output clean."""


@pytest.fixture(scope="module")
def private_index(environment: Path) -> Iterator[str]:
    handler = partial(PrivateIndex, directory=environment / "index")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://name:word@127.0.0.1:{server.server_port}/simple"
        server.shutdown()


@needs_uv
@pytest.mark.parametrize(
    "settings",
    [
        {"index-url": "file://{root}/index/simple"},
        {"index-url": "file://{root}/none", "extra-index-url": "file://{root}/index/simple"},
        {"no-index": "1", "find-links": "{root}/index/simple/sample"},
        {"index-url": "{private}"},
    ],
    ids=lambda settings: list(settings)[-1],
)
def test_uv_installs_from_where_pip_would(
    environment: Path, private_index: str, settings: dict[str, str]
) -> None:
    places = {
        key: value.format(root=environment, private=private_index)
        for key, value in settings.items()
    }
    uv = uv_with(environment, **places)
    assert install_locks([uv], [environment / "right.lock"], again=True)
    assert installed(environment)


@needs_uv
def test_where_one_program_fails_the_next_installs(
    environment: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fails = Installer(("false",), "--index", "--reinstall")
    works = uv_with(environment, **{"index-url": f"file://{environment}/index/simple"})
    assert install_locks([fails, works], [environment / "right.lock"])
    assert "uv could not; pip tries" in capfd.readouterr().err
    assert not install_locks([fails], [environment / "right.lock"], may_fail=True)


def test_what_is_imported_is_compiled_whatever_the_environment_says(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [site] = (environment / "env").glob("lib/*/site-packages")
    (site / "sample_used.py").write_text("")
    (site / "sample_unused.py").write_text("")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    monkeypatch.setattr(install, "IMPORTED", ("sample_missing", "sample_used"))
    install.compile_imported(environment / "env/bin/python")
    assert [path.name.split(".")[0] for path in site.glob("__pycache__/sample*")] == ["sample_used"]


def test_a_build_of_torch_tells_whether_it_needs_cuda() -> None:
    assert needs_cuda(Path(sys.executable)) is (torch.version.cuda is not None)


@pytest.mark.slow
def test_an_environment_of_another_python_is_emptied_and_no_other_folder(tmp_path: Path) -> None:
    for settings, stays in (
        (f"home = x\nversion = {sys.version_info[0]}.{sys.version_info[1]}.0\n", True),
        ("home = x\nversion = 3.9.1\n", False),
        (None, True),
    ):
        folder = tmp_path / f"{stays}-{settings is None}"
        folder.mkdir()
        (folder / "kept").touch()
        if settings is not None:
            (folder / "pyvenv.cfg").write_text(settings)
        assert make_environment(folder).is_file()
        assert (folder / "kept").exists() is stays
