"""What a server reads of an archive before it starts."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from torchscript_bundle.server.archives import (
    ArchivedBatching,
    ArchiveError,
    read_batching,
    read_samples,
    unpack,
)
from torchscript_bundle.serving.artifact import CONFIG_FILE, SAMPLES_FILE


def archive(path: Path, files: Mapping[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as content:
        for name, text in files.items():
            content.writestr(name, text)
    return path


def test_batches_are_as_the_config_says_or_as_they_were(tmp_path: Path) -> None:
    config = json.dumps({"batch_size": 3, "other": 1})
    new, old = archive(tmp_path / "new.mar", {CONFIG_FILE: config}), archive(tmp_path / "o.mar", {})
    assert read_batching(new) == ArchivedBatching("latency", batch_size=3, max_batch_delay=5)
    assert read_batching(old) == ArchivedBatching("latency", batch_size=8, max_batch_delay=5)


def test_an_archive_without_samples_says_how_to_make_one_with(tmp_path: Path) -> None:
    whole = archive(tmp_path / "new.mar", {SAMPLES_FILE: '["It works.", "Käse"]'})
    assert read_samples(whole) == ["It works.", "Käse"]
    with pytest.raises(ArchiveError, match=r"old\.mar has no samples .*make archive"):
        read_samples(archive(tmp_path / "old.mar", {}))


@pytest.mark.parametrize("read", [read_batching, read_samples])
def test_no_archive_is_told(read: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="no such archive; `make archive`"):
        read(tmp_path / "nosuch.mar")
    (tmp_path / "text.mar").write_text("not a zip")
    with pytest.raises(ArchiveError, match="damaged"):
        read(tmp_path / "text.mar")


def test_unpacked_files_are_those_that_were_packed(tmp_path: Path) -> None:
    files = {"a.txt": "first" * 1000, "folder/b.txt": "second"}
    made = archive(tmp_path / "a.mar", files)
    unpack(made, tmp_path / "out")
    assert {name: (tmp_path / "out" / name).read_text() for name in files} == files
    content = made.read_bytes()
    made.write_bytes(content.replace(b"firstfirst", b"fistsfirst", 1))
    with pytest.raises(ArchiveError, match=r"a\.mar is damaged \(.*a\.txt.*make it again"):
        unpack(made, tmp_path / "again")
