"""The locks are whole: every pin has hashes, and nothing that a pin needs is missing."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.lock import LOCKS, ROOT, environments, read_cpu_hashes, read_pins, simplify

MAIN = ROOT / "requirements.lock"
TORCH, TORCH_CPU, CUDA = (LOCKS / name for name in ("torch.lock", "torch-cpu.lock", "cuda.lock"))
ALL = [
    *(MAIN, TORCH, TORCH_CPU, CUDA),
    *(LOCKS / f"{name}.lock" for name in ("requirements", "tools", "installer", "cluster")),
    *(ROOT / folder / "requirements.lock" for folder in ("benchmarks", "demo")),
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DIRECT = [
    Requirement(line)
    for lines in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for line in lines
    if Requirement(line).name != PROJECT["name"]
]


@cache
def pinned(*locks: Path) -> dict[str, list[Requirement]]:
    """The requirements of locks, without their hashes; a package may have one for each Python."""
    return {
        name: [Requirement(line.split(" \\")[0]) for line in re.split(r"\n(?=\S)", pin)]
        for lock in locks
        for name, pin in read_pins(lock.read_text()).items()
    }


@pytest.mark.parametrize("lock", ALL, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_pin_is_one_version_and_has_hashes(lock: Path) -> None:
    pins = read_pins(lock.read_text())
    assert pins
    for pin in pins.values():
        for each in re.split(r"\n(?=\S)", pin):
            assert re.match(r"[\w.-]+==[^ ;*]+( ; [^\\]+)?( \\)?( --hash|$)", each, re.M), each
            assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", each), each


def test_the_two_locks_of_torch_are_of_one_version_and_share_no_file() -> None:
    (either,), (cpu,) = pinned(TORCH)["torch"], pinned(TORCH_CPU)["torch"]
    assert str(cpu.specifier) == f"{either.specifier}+cpu"
    hashes = [
        set(re.findall("sha256:([0-9a-f]{64})", lock.read_text())) for lock in (TORCH, TORCH_CPU)
    ]
    assert hashes[0] and hashes[0].isdisjoint(hashes[1])
    assert len(hashes[1]) == len(environments())


def test_direct_dependencies_are_pinned_within_their_ranges() -> None:
    pins = pinned(MAIN, TORCH)
    for requirement in DIRECT:
        for pin in pins[canonicalize_name(requirement.name)]:
            (version,) = (each.version for each in pin.specifier)
            assert requirement.specifier.contains(version), requirement


@cache
def metadata(name: str) -> list[Requirement]:
    """What an installed package needs, with markers."""
    return [Requirement(line) for line in importlib.metadata.requires(name) or ()]


def needs(requirement: Requirement, environment: dict[str, str]) -> Iterator[Requirement]:
    """What a package needs on a machine, as its installed metadata says."""
    for needed in metadata(requirement.name):
        if needed.marker is None or any(
            needed.marker.evaluate({**environment, "extra": extra})
            for extra in ("", *requirement.extras)
        ):
            yield needed


@pytest.mark.parametrize(
    "environment",
    environments(),
    ids=lambda each: each["python_version"] + each["platform_machine"],
)
def test_what_the_pins_need_is_pinned_for_every_python(environment: dict[str, str]) -> None:
    """Walks the metadata of what is installed here, which is what the lock names."""
    pins, libraries = pinned(MAIN, TORCH, CUDA), pinned(CUDA)
    waiting, seen = list(DIRECT), set(map(str, DIRECT))
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        there = [
            pin
            for pin in pins.get(name, [])
            if pin.marker is None or pin.marker.evaluate(environment)
        ]
        assert len(there) == 1, name
        (version,) = (each.version for each in there[0].specifier)
        assert requirement.specifier.contains(version, prereleases=True), requirement
        here = there[0].marker is None or there[0].marker.evaluate()
        if here and name not in libraries:
            further = [each for each in needs(requirement, environment) if str(each) not in seen]
            waiting += further
            seen |= set(map(str, further))
    assert len(seen) > 100


def test_a_lock_of_a_part_has_the_versions_of_the_whole() -> None:
    """What a serving machine runs was tried with the rest."""
    whole = pinned(MAIN)
    for name, pins in pinned(LOCKS / "requirements.lock").items():
        assert pins == whole[name]


def test_hashes_of_cpu_builds_are_read_off_pytorchs_index() -> None:
    builds = (
        "torch-2.13.0%2Bcpu-cp310-cp310-manylinux_2_28_x86_64.whl",
        "torch-2.13.0%2Bcpu-cp312-cp312-manylinux_2_28_x86_64.whl",
        "torch-2.13.0%2Bcpu-cp313-cp313t-manylinux_2_28_x86_64.whl",
        "torch-2.13.0%2Bcpu-cp313-cp313-manylinux_2_28_aarch64.whl",
        "torch-2.13.0%2Bcpu-cp313-cp313-win_amd64.whl",
        "torch-2.13.1%2Bcpu-cp313-cp313-manylinux_2_28_x86_64.whl",
    )
    page = "".join(
        f'<a href="/whl/cpu/{build}#sha256={number:064x}" data-x="y">{build}</a><br/>\n'
        for number, build in enumerate(builds)
    )
    assert read_cpu_hashes(page, "2.13.0") == [f"{number:064x}" for number in (1, 3)]


def test_markers_that_hold_everywhere_are_dropped_and_so_is_what_nobody_takes() -> None:
    pin = """one==1 ; sys_platform == 'linux' and python_version < '3.14' \\
    --hash=sha256:aa
one==2 ; python_version >= '3.13' \\
    --hash=sha256:bb \\
    --hash=sha256:cc
one==3 ; implementation_name == 'pypy' \\
    --hash=sha256:dd"""
    assert simplify(pin).splitlines() == [
        *("one==1 \\", "    --hash=sha256:aa"),
        *(
            "one==2 ; python_version >= '3.13' \\",
            "    --hash=sha256:bb \\",
            "    --hash=sha256:cc",
        ),
    ]
