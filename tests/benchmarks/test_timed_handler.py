"""The watch of the profile is on functions that are there."""

from __future__ import annotations

import importlib
import operator
import zipfile
from pathlib import Path

import pytest

from benchmarks import stages, timed_handler


@pytest.mark.parametrize(
    "name", [each for names in timed_handler.STAGES.values() for each in names]
)
def test_what_is_watched_exists(name: str) -> None:
    module, _, path = name.partition(":")
    owner = importlib.import_module(f"{timed_handler.SERVING}.{module}")
    assert callable(operator.attrgetter(path)(owner))


def test_the_archives_own_handler_stays_inside(tmp_path: Path) -> None:
    archive = tmp_path / "served.mar"
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr(stages.HANDLER, "own")
        content.writestr("bundle.json", "{}")
    (tmp_path / "timed").mkdir()
    with zipfile.ZipFile(stages.pack_timed(archive, tmp_path / "timed")) as timed:
        assert timed.read("served_handler.py") == b"own"
        assert timed.read(stages.HANDLER) == stages.TIMED.read_bytes()
        assert timed.read("bundle.json") == b"{}"
