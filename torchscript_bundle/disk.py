"""Explain why files cannot be written: a full disk, a folder without write permission."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: A full disk, an exhausted quota.
FULL = {errno.ENOSPC, errno.EDQUOT}
#: Errors of a disk. A damaged zip raises others.
OF_THE_DISK = {*FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO}
#: Bytes that a folder must take to count as writable.
LEAST_ROOM = 1 << 16


@contextmanager
def writing(
    place: Path, remedy: str, failure: type[Exception], *, needed: int | None = None
) -> Iterator[None]:
    """Turn an OSError of the block, which writes to `place`, into a `failure` with a `remedy`.

    The block should remove what it wrote before it raises: the sentence tells the free room.
    `needed` are the bytes to write, where known.
    """
    try:
        yield
    except OSError as error:
        raise failure(f"{not_written(error, place, needed)}{remedy}") from error


def not_written(error: OSError, place: Path, needed: int | None = None) -> str:
    """Return why a folder could not be written to; a remedy should follow."""
    reason = error.strerror or str(error)
    if error.errno not in FULL:
        return f"{error.filename or place} could not be written ({reason}); "
    asked = f"about {_size(needed)} are needed, " if needed else ""
    free = _size(shutil.disk_usage(_existing(place)).free)
    return f"{place} could not be written ({reason}): {asked}{free} are free; make room there, or "


def lack_of_room(error: Exception) -> OSError | None:
    """Return the OSError of a full disk behind a library's own exception; None for others.

    Libraries in Rust (safetensors, tokenizers) have `(os error 28)` in their messages.
    """
    for number in FULL:
        if getattr(error, "errno", None) == number or f"(os error {number})" in str(error):
            return OSError(number, os.strerror(number))
    return None


def check_writable(folder: Path, mode: int = 0o777) -> None:
    """Make a folder (permissions `mode`) and its parents if need be; try to write into it."""
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(LEAST_ROOM))
        file.flush()


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, at once; where that is on another disk, a copy."""
    if target.exists() and _is_same(source, target):
        return
    fresh = target.with_name(f".{target.name}.new")
    fresh.unlink(missing_ok=True)
    try:
        fresh.hardlink_to(source)
    except OSError:
        shutil.copy2(source, fresh)
    fresh.replace(target)


def _is_same(source: Path, target: Path) -> bool:
    """Return whether two names are of one file, or of a file and its copy on another disk."""
    one, other = source.stat(), target.stat()
    copied = one.st_dev != other.st_dev and one.st_size == other.st_size
    return os.path.samestat(one, other) or (copied and one.st_mtime_ns == other.st_mtime_ns)


def check_room(folder: Path, needed: int) -> None:
    """Raise the OSError of a full disk where a folder has no room for so many bytes."""
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _existing(place: Path) -> Path:
    """Return the folder, or its nearest existing parent."""
    return next(each for each in (place, *place.absolute().parents) if each.exists())


def _size(count: int) -> str:
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"
