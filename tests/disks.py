"""Disks that are full, and folders that nobody can write to."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def disk(place: Path, kilobytes: int, *options: str) -> Iterator[Path]:
    """A disk of its own in a folder, which takes so much and no more.

    Args:
        place: the folder, which is made.
        kilobytes: its size; the kernel rounds up to pages.
        options: further ones of mount, such as `ro`.
    """
    place.mkdir()
    settings = ",".join((f"size={kilobytes}k", *options))
    command = ["mount", "-t", "tmpfs", "-o", settings, "none", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(place: Path) -> None:
    """Writes a file until the disk has no room."""
    with (place / "filler").open("wb", buffering=0) as file, pytest.raises(OSError, match="space"):
        while True:
            file.write(bytes(4096))
