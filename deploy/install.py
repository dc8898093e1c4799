"""Make an environment of exactly what the locks name, every file checked against its hash.

`python3.13 deploy/install.py FOLDER LOCK...` makes the virtual environment FOLDER, or brings it up
to date. It needs the standard library alone.

torch comes first, from locks of its own, because PyPI's builds (`torch.lock`) and PyTorch's CPU
builds (`torch-cpu.lock`) are different files of one version. The CUDA libraries of `cuda.lock`
follow if the build that was installed asks for them.

uv installs in a fraction of pip's time. It is told what pip's settings say of where packages come
from, whom to trust and how to get there. Where it cannot be had, or fails, pip installs.
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
#: Versions that the locks resolve on and that the tests were run on.
PYTHONS = ((3, 11), (3, 12), (3, 13))
#: pip's settings that name where packages come from.
PLACES = ("index-url", "extra-index-url", "find-links", "no-index")
#: How uv is told pip's settings: the environment variables (command lines can be read by every user
#: of a machine, and addresses hold passwords), and what separates several values there.
UV_VARIABLES = {
    "index-url": (("UV_INDEX_URL",), " "),
    "extra-index-url": (("UV_EXTRA_INDEX_URL",), " "),
    "find-links": (("UV_FIND_LINKS",), ","),
    "trusted-host": (("UV_INSECURE_HOST",), " "),
    "cert": (("SSL_CERT_FILE",), " "),
    "client-cert": (("SSL_CLIENT_CERT",), " "),
    "proxy": (("HTTP_PROXY", "HTTPS_PROXY"), " "),
    "timeout": (("UV_HTTP_TIMEOUT",), " "),
    "default-timeout": (("UV_HTTP_TIMEOUT",), " "),
    "retries": (("UV_HTTP_RETRIES",), " "),
}
#: Environment variables that name a bundle of certificates to pip, but not to uv.
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
#: Modules that, with what they import, are most of what exporting and serving load.
IMPORTED = ("torch", "transformers.modeling_utils", "ts.model_service_worker", "tokenizers")
#: What a CUDA build of torch depends on, and no other.
CUDA_PACKAGES = ("nvidia-", "cuda-", "triton")


class InstallError(Exception):
    """The environment cannot be made; the message says what to do."""


@dataclass(frozen=True)
class TorchSource:
    """The lock that torch is installed from, one more index to ask, and a sentence about both."""

    lock: Path
    index: str | None
    says: str


@dataclass(frozen=True)
class Installer:
    """A program that installs what locks name: pip, or uv as pip is configured.

    Attributes:
        command: the program with the options that it always gets.
        index_option: its option for one more index.
        again_option: its option that replaces what is installed.
        variables: what it finds in its environment beside ours.
    """

    command: tuple[str, ...]
    index_option: str
    again_option: str
    variables: Mapping[str, str] = field(default_factory=dict)

    def install(
        self, locks: Sequence[Path], *, index: str | None, again: bool, quiet: bool
    ) -> bool:
        """Install what the locks name, every file checked, and return whether that worked."""
        command = [*self.command, "--no-deps", "--require-hashes"]
        command += [part for lock in locks for part in ("-r", str(lock))]
        command += [self.index_option, index] if index else []
        command += [self.again_option] if again else []
        environment = {**os.environ, **self.variables}
        done = subprocess.run(command, check=False, capture_output=quiet, env=environment)
        return done.returncode == 0


def choose_torch(asked: str, *, nvidia: bool, configured: bool) -> tuple[TorchSource, ...]:
    """Choose builds of torch, to be tried in this order.

    Args:
        asked: `cpu`, `cuda`, or `auto` for what the machine and pip's settings suggest.
        nvidia: whether the machine has an NVIDIA GPU.
        configured: whether pip is told where packages come from. No other place is then asked,
            since a machine without network knows none.
    """
    cuda_says = "torch: PyPI's build, with several GB of CUDA libraries; TORCH=cpu takes the other"
    cuda = TorchSource(HERE / "torch.lock", None, cuda_says)
    lock = HERE / "torch-cpu.lock"
    if asked == "cuda" or (asked == "auto" and nvidia):
        return (cuda,)
    if asked == "auto" and configured:
        says = "torch: the CPU build, if pip's configured indexes have it (no NVIDIA GPU was found)"
        return TorchSource(lock, None, says), cuda
    return (TorchSource(lock, CPU_INDEX, f"torch: the CPU build, from {CPU_INDEX}"),)


def has_nvidia_gpu() -> bool:
    """Return whether a driver of NVIDIA's is there."""
    return shutil.which("nvidia-smi") is not None or Path("/dev/nvidiactl").exists()


def read_settings(listing: str) -> dict[str, str]:
    """Read pip's settings for installing off the output of `pip config list`.

    As for pip, those of `pip install` alone come before those of all its commands, and environment
    variables before both.
    """
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listing.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in sections:
            sections[section][key] = ast.literal_eval(value)
    return {key: value for section in sections.values() for key, value in section.items()}


def names_places(settings: Mapping[str, str]) -> bool:
    """Return whether pip's settings say where packages come from."""
    return any(key in PLACES for key in settings)


def uv_installer(python: Path, settings: Mapping[str, str]) -> Installer:
    """Return uv, as pip is configured, for an environment that has it."""
    # As pip, it trusts whom the machine trusts, and asks all indexes: hashes decide what is taken.
    command = [str(python.parent / "uv"), "pip", "install", "--python", str(python), "--no-config"]
    command += ["--system-certs", "--index-strategy", "unsafe-best-match"]
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on", "y", "t"):
        command.append("--no-index")
    variables = {
        name: separator.join(settings[key].split())
        for key, (names, separator) in UV_VARIABLES.items()
        if key in settings
        for name in names
    }
    return Installer(tuple(command), "--index", "--reinstall", variables)


def find_installers(python: Path) -> tuple[tuple[Installer, ...], Mapping[str, str]]:
    """Return what can install into an environment, the best first, and pip's settings."""
    program = (str(python), "-m", "pip", "--disable-pip-version-check")
    listing = subprocess.run(
        [*program, "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    bundle = next((os.environ[name] for name in BUNDLES if os.environ.get(name)), None)
    settings = {**({"cert": bundle} if bundle else {}), **read_settings(listing)}
    # Neither compiles anything: most modules are never imported (`compile_imported`).
    pip = Installer((*program, "install", "--no-compile"), "--extra-index-url", "--force-reinstall")
    wheels = replace(pip, command=(*pip.command, "--only-binary", "uv"))
    if wheels.install([HERE / "installer.lock"], index=None, again=False, quiet=True):
        return (uv_installer(python, settings), pip), settings
    print("uv cannot be had here; pip installs", flush=True)
    return (pip,), settings


def install(folder: Path, locks: Sequence[Path], torch: str) -> None:
    """Make the environment, or bring it up to date.

    Raises:
        InstallError: something cannot be had.
    """
    python = make_environment(folder)
    installers, settings = find_installers(python)
    sources = choose_torch(torch, nvidia=has_nvidia_gpu(), configured=names_places(settings))
    for source in sources:
        print(source.says, flush=True)
        # Asked for by name, it replaces a build of the same version.
        again, others = torch != "auto", source is not sources[-1]
        lock = [source.lock]
        if install_locks(installers, lock, index=source.index, again=again, may_fail=others):
            break
    if needs_cuda(python):
        install_locks(installers, [HERE / "cuda.lock"])
    install_locks(installers, locks)
    compile_imported(python)


def make_environment(folder: Path) -> Path:
    """Make a virtual environment and return its Python; one of another version is emptied first."""
    this = ".".join(map(str, sys.version_info[:2]))
    settings = folder / "pyvenv.cfg"
    stale = settings.is_file() and f"\nversion = {this}." not in settings.read_text()
    command = [sys.executable, "-m", "venv", *(["--clear"] if stale else []), str(folder)]
    if subprocess.run(command, check=False).returncode != 0:
        raise InstallError(f"{sys.executable} cannot make the virtual environment {folder}")
    return folder / "bin" / "python"


def compile_imported(python: Path) -> None:
    """Write the byte code of what is imported most, by importing it.

    Else every process compiles it anew where none may write it: in another user's environment, or
    with PYTHONDONTWRITEBYTECODE. That is most of the time that a worker takes to start there.
    """
    code = "import contextlib, importlib, sys\n"
    code += "for name in sys.argv[1:]:\n"
    code += "    with contextlib.suppress(ImportError): importlib.import_module(name)"
    writing = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    command = [str(python), "-W", "ignore", "-c", code, *IMPORTED]
    # What is wrong with a package, the process that needs it will say.
    subprocess.run(command, check=False, capture_output=True, env=writing)


def needs_cuda(python: Path) -> bool:
    """Return whether the torch of an environment is a CUDA build, as its dependencies tell."""
    code = "import importlib.metadata as m; print(*(m.requires('torch') or ()), sep='\\n')"
    told = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return any(line.startswith(CUDA_PACKAGES) for line in told.stdout.splitlines())


def install_locks(
    installers: Sequence[Installer],
    locks: Sequence[Path],
    *,
    index: str | None = None,
    again: bool = False,
    may_fail: bool = False,
) -> bool:
    """Install what locks name, and return whether that worked; `may_fail` keeps all silent."""
    for installer in installers:
        if installer.install(locks, index=index, again=again, quiet=may_fail):
            return True
        if not may_fail and installer is not installers[-1]:
            print("uv could not; pip tries", file=sys.stderr, flush=True)
    if may_fail:
        return False
    if locks[0].name == "torch-cpu.lock":
        raise InstallError(
            "the CPU build of torch could not be installed; set PIP_EXTRA_INDEX_URL to an index "
            "that has it, or TORCH=cuda for PyPI's build (several GB)"
        )
    raise InstallError(f"pip could not install {' '.join(map(str, locks))}; it says why above")


def main() -> int:
    """Run the installation; return the exit status."""
    parser = argparse.ArgumentParser(description="Make an environment of what locks name.")
    parser.add_argument("folder", type=Path, help="the virtual environment")
    parser.add_argument(
        "locks", type=Path, nargs="+", help="requirements.lock, deploy/requirements.lock, ..."
    )
    parser.add_argument("--torch", choices=("auto", "cpu", "cuda"), default="auto")
    arguments = parser.parse_args()
    try:
        if sys.version_info[:2] not in PYTHONS:
            this, *known = (".".join(map(str, v)) for v in (sys.version_info[:2], *PYTHONS))
            raise InstallError(f"this is Python {this}; set PYTHON=... to {' or '.join(known)}")
        install(arguments.folder, arguments.locks, arguments.torch)
    except InstallError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
