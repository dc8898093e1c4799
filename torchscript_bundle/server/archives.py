"""What a server reads of a `.mar`: its plan for batches, its samples, and all its files."""

from __future__ import annotations

import errno
import json
import zipfile
from pathlib import Path
from typing import Any

from torchscript_bundle.disk import FULL
from torchscript_bundle.serving.artifact import CONFIG_FILE, SAMPLES_FILE

#: Of the archive's config, with what they were before there were these keys.
BATCHING = {"optimize_for": "latency", "batch_size": 8, "max_batch_delay": 5}

#: Errors that unpacking meets where it writes. A damaged zip raises others: offsets that are none.
OF_THE_DISK = {*FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO}


class ArchiveError(Exception):
    """There is no such archive, or not all of it; the message says how to make it."""


def read_batching(archive: Path) -> dict[str, Any]:
    """What the archive's config says of batches and what they are for."""
    config = _read_json(archive, CONFIG_FILE) or {}
    return {key: config.get(key, before) for key, before in BATCHING.items()}


def read_samples(archive: Path) -> list[str]:
    """Bodies of requests to try the archive with.

    Raises:
        ArchiveError: no such archive, or one without samples.
    """
    samples = _read_json(archive, SAMPLES_FILE)
    if not samples:
        raise ArchiveError(f"{archive} has no samples in it; remove it, and `make archive`")
    return list(samples)


def unpack(archive: Path, folder: Path) -> None:
    """Writes all files of an archive into a folder, and checks each against its CRC.

    Raises:
        ArchiveError: a part of it is missing, or not what was packed.
        OSError: the folder cannot be written to.
    """
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
    """Bytes of all files of an archive.

    Raises:
        ArchiveError: there is no such archive, or it cannot be read.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            return sum(entry.file_size for entry in content.infolist())
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise _unread(archive, error) from error


def _read_json(archive: Path, name: str) -> Any:
    """The content of a JSON file; None where the archive has no such file.

    Raises:
        ArchiveError: there is no such archive, or it cannot be read.
    """
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
