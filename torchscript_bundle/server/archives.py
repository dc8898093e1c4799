"""Read a `.mar`: its batching, its samples, and all its files."""

from __future__ import annotations

import errno
import json
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torchscript_bundle.disk import FULL
from torchscript_bundle.serving.artifact import CONFIG_FILE, SAMPLES_FILE

#: Errors of the disk that unpacking writes to. A damaged zip raises others.
OF_THE_DISK = {*FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO}


class ArchiveError(Exception):
    """An archive is missing or incomplete; the message says how to make it."""


@dataclass(frozen=True)
class ArchivedBatching:
    """Keys of an archive's config; the defaults are those of archives that lack them."""

    optimize_for: str = "latency"
    batch_size: int = 8
    max_batch_delay: int = 5


def read_batching(archive: Path) -> ArchivedBatching:
    """Return what the archive's config says about batches and their goal."""
    config = _read_json(archive, CONFIG_FILE) or {}
    names = (field.name for field in fields(ArchivedBatching))
    return ArchivedBatching(**{name: config[name] for name in names if name in config})


def read_samples(archive: Path) -> list[str]:
    """Return the bodies of requests to try the archive with."""
    samples = _read_json(archive, SAMPLES_FILE)
    if not samples:
        raise ArchiveError(f"{archive} has no samples in it; remove it, and `make archive`")
    return list(samples)


def content_type(sample: str) -> str:
    """Return a sample's content type: JSON for an object or a list, else text.

    What only looks like JSON is sent untyped (octet-stream), as by the TorchServe example.
    """
    if sample[:1] not in ("{", "["):
        return "text/plain; charset=utf-8"
    try:
        json.loads(sample)
    except ValueError:
        return "application/octet-stream"
    return "application/json"


def unpack(archive: Path, folder: Path) -> None:
    """Write all files of an archive into a folder; ArchiveError if one fails its CRC."""
    try:
        with zipfile.ZipFile(archive) as content:
            content.extractall(folder)
    except (zipfile.BadZipFile, EOFError) as error:
        raise _damaged(archive, error) from error
    except OSError as error:
        if error.errno in OF_THE_DISK:
            raise
        raise _damaged(archive, error) from error


def unpacked_size(archive: Path) -> int:
    """Return the bytes of all files of an archive."""
    try:
        with zipfile.ZipFile(archive) as content:
            return sum(entry.file_size for entry in content.infolist())
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise _unread(archive, error) from error


def _read_json(archive: Path, name: str) -> Any:
    """Return the content of a JSON file; None where the archive has no such file."""
    if not archive.is_file():
        raise ArchiveError(f"{archive}: no such archive; `make archive` makes it")
    try:
        with zipfile.ZipFile(archive) as content:
            return json.loads(content.read(name)) if name in content.namelist() else None
    except (zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
        raise _unread(archive, error) from error


def _unread(archive: Path, error: Exception) -> ArchiveError:
    if isinstance(error, OSError) and error.errno in OF_THE_DISK:
        return ArchiveError(f"{archive} cannot be read ({error.strerror})")
    return _damaged(archive, error)


def _damaged(archive: Path, error: Exception) -> ArchiveError:
    return ArchiveError(f"{archive} is damaged ({error}); remove it and make it again")
