"""Resolve every lock anew from what it is made of: `make lock`.

uv resolves for Python 3.11 to 3.13 on Linux at once and writes the hashes of all files of each pin.
Pins of the present locks are kept where the ranges allow them; options go to uv, for example
`--upgrade` or `--upgrade-package numpy`.

torch and the CUDA libraries go to locks of their own, which `install.py` explains. The hashes of
torch's CPU builds come from PyTorch's index, or from the present lock where that index cannot be
reached and the version is the same.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.install import CPU_INDEX, CUDA_PACKAGES

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "deploy"
TORCH, TORCH_CPU, CUDA = (LOCKS / name for name in ("torch.lock", "torch-cpu.lock", "cuda.lock"))
PYTHONS = ("3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
#: Builds of torch that the CPU lock allows: those Pythons, on the two architectures of servers.
CPU_BUILD = r"-cp31[123]-cp31[123]-manylinux[\w.]*_(?:x86_64|aarch64)\.whl#sha256=([0-9a-f]{64})"

Pins = Mapping[str, str]


def main() -> int:
    """Write the locks; return the exit status."""
    options = sys.argv[1:]
    torch = _torch_range()
    pins = resolve([torch], [], [TORCH, CUDA], options)
    cuda = {name: pin for name, pin in pins.items() if name.startswith(CUDA_PACKAGES)}
    version = Requirement(pins["torch"].split(" \\\n")[0]).specifier
    cpu = cpu_hashes(str(version).removeprefix("=="))
    write(TORCH, "torch: PyPI's builds.", {"torch": pins["torch"]})
    cpu_pin = _add(f"torch{version}+cpu", cpu)
    write(TORCH_CPU, f"torch: the CPU builds of {CPU_INDEX}.", {"torch": cpu_pin})
    write(CUDA, "What PyPI's builds of torch need, and the CPU builds do not.", cuda)
    separate = {"torch", *cuda}
    main_lock = ROOT / "requirements.lock"
    for lock, sources, constraints, says in (
        (main_lock, ["pyproject.toml", "--extra", "dev"], [TORCH], "What `make setup` installs."),
        (
            LOCKS / "requirements.lock",
            ["deploy/requirements.in"],
            [TORCH, main_lock],
            "What a machine that only serves needs: no transformers, no archiver.",
        ),
        (
            ROOT / "benchmarks" / "requirements.lock",
            ["benchmarks/requirements.in"],
            [TORCH],
            "What `make bench` compares with, in an environment of its own, .venv-bench.",
        ),
        (LOCKS / "tools.lock", ["deploy/tools.in"], [], "What `make lock` and `make audit` run."),
    ):
        pins = resolve(sources, constraints, [lock], options)
        kept = {name: pin for name, pin in pins.items() if name not in separate}
        write(lock, f"{says} torch is in deploy/torch.lock.", kept)
        print(f"{lock.relative_to(ROOT)}: {len(kept)} packages")
    uv = read_pins((LOCKS / "tools.lock").read_text())["uv"]
    write(LOCKS / "installer.lock", "What deploy/install.py installs the others with.", {"uv": uv})
    return 0


def resolve(
    sources: Sequence[str],
    constraints: Sequence[Path],
    present: Sequence[Path],
    options: Sequence[str],
) -> dict[str, str]:
    """Return the pin of each package, with markers and hashes, as uv resolves it.

    Args:
        sources: uv's arguments for what to resolve; the first may be a requirement.
        constraints: locks whose versions must be taken.
        present: locks whose versions are kept where they still fit.
        options: further arguments of uv.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "resolved.txt"
        # Without their hashes, which uv would keep without looking.
        pins = "\n".join(path.read_text() for path in present if path.is_file())
        output.write_text(re.sub(r" *\\?\n? +--hash=\S+", "", pins))
        given = sources
        if not sources[0].endswith((".toml", ".in")):
            (Path(folder) / "wanted.in").write_text(sources[0])
            given = [f"{folder}/wanted.in"]
        command = [
            *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", *given),
            *(part for path in constraints for part in ("--constraints", str(path))),
            *("--universal", "--python-version", PYTHONS[0], "--generate-hashes"),
            *("--no-header", "--no-annotate", "--output-file", str(output), *options),
        ]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        resolved = read_pins(output.read_text())
    plain = {name: simplify(pin) for name, pin in resolved.items()}
    return {name: pin for name, pin in plain.items() if pin}


def environments() -> list[dict[str, str]]:
    """Return the values of markers on each machine that the locks are for."""
    return [
        {
            **{"python_version": python, "python_full_version": f"{python}.0"},
            **{"implementation_name": "cpython", "platform_python_implementation": "CPython"},
            **{"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"},
            "platform_machine": machine,
        }
        for python in PYTHONS
        for machine in MACHINES
    ]


def simplify(pin: str) -> str:
    """Drop the markers that hold on every machine, and the versions that no machine takes."""
    kept = []
    for version in re.split(r"\n(?=\S)", pin):
        requirement, *hashes = version.split(" \\\n")
        plain, _, text = requirement.partition(" ; ")
        holds = [not text or Marker(text).evaluate(values) for values in environments()]
        if any(holds):
            kept.append(" \\\n".join((plain if all(holds) else requirement, *hashes)))
    return "\n".join(kept)


def read_pins(text: str) -> dict[str, str]:
    """Return the requirements of a lock by normalised name; a pin is several lines."""
    pins: dict[str, str] = {}
    for block in re.split(r"\n(?=\S)", re.sub(r"(?m)^\s*#.*\n", "", text)):
        if block.strip():
            name = canonicalize_name(re.split(r"[=\s;\[]", block, maxsplit=1)[0])
            pins[name] = f"{pins[name]}\n{block.rstrip()}" if name in pins else block.rstrip()
    return pins


def cpu_hashes(version: str) -> list[str]:
    """Return the sha256 of the CPU builds of a version of torch, sorted."""
    try:
        with urllib.request.urlopen(f"{CPU_INDEX}/torch/", timeout=30) as answer:
            return read_cpu_hashes(answer.read().decode(), version)
    except (OSError, urllib.error.URLError) as error:
        present = TORCH_CPU.read_text() if TORCH_CPU.is_file() else ""
        if f"torch=={version}+cpu" not in present:
            sys.exit(f"error: {CPU_INDEX} does not answer ({error}), and {version} is new")
        print(f"{CPU_INDEX} does not answer: the hashes of its builds of {version} stay")
        return sorted(re.findall(r"sha256:([0-9a-f]{64})", present))


def read_cpu_hashes(page: str, version: str) -> list[str]:
    """Read the sha256 of the CPU builds of a version off a page of PyTorch's index."""
    found = re.findall(rf"torch-{re.escape(version)}(?:%2B|\+)cpu{CPU_BUILD}", page)
    if not found:
        sys.exit(f"error: {CPU_INDEX} has no builds of torch {version}")
    return sorted(set(found))


def write(path: Path, says: str, pins: Pins) -> None:
    """Write a lock, sorted by name."""
    head = f"# {says}\n# `make lock` writes this file; docs/development.md says how.\n"
    path.write_text(head + "".join(f"{pins[name]}\n" for name in sorted(pins)))


def _torch_range() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return str(next(each for each in project["dependencies"] if Requirement(each).name == "torch"))


def _add(pin: str, hashes: Sequence[str]) -> str:
    return " \\\n".join((pin, *(f"    --hash=sha256:{each}" for each in hashes)))


if __name__ == "__main__":
    sys.exit(main())
