"""Check a `.mar` whole and unpack it; read its batching and samples.

Before anything is unpacked, the archive is what is demanded and its members are those of its own
list of digests, of bounded size. Each digest is checked while its file is written, so that an
archive is read once: who unpacks into a folder of his own, and uses it only where no error was
raised, has nothing that was not checked.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from io import BufferedReader
from pathlib import Path
from typing import Any

from torchscript_bundle.disk import OF_THE_DISK
from torchscript_bundle.members import Members, quoted
from torchscript_bundle.server.advice import command
from torchscript_bundle.server.machine import GOALS
from torchscript_bundle.server.signatures import SignatureError, check_signature
from torchscript_bundle.serving.artifact import CONFIG_FILE, SAMPLES_FILE
from torchscript_bundle.sums import MANIFEST, SUMS_FILE, SUMS_KEY, read_sums

logger = logging.getLogger(__name__)

REMEDY = "remove the archive, and make it or fetch it again"


class ArchiveError(Exception):
    """An archive is missing, incomplete or not the right one; the message says what to do."""


@dataclass(frozen=True)
class Demands:
    """The demands on an archive: its digest, and who signed it.

    Attributes:
        sha256: digests of whole archives, of which it must have one; any will do if there are none.
        signed_by: a file of public keys, of which one must have signed it.
    """

    sha256: frozenset[str] = frozenset()
    signed_by: Path | None = None

    def check(self, archive: Path, file: BufferedReader) -> None:
        """Raise ArchiveError if an open archive is another one."""
        if not self:
            return
        file.seek(0)
        found = hashlib.file_digest(file, "sha256").hexdigest()
        if self.sha256 and found not in self.sha256:
            raise ArchiveError(
                f"{archive} is not the archive that is demanded: its sha256 is {found}, not "
                f"{' or '.join(sorted(self.sha256))}; fetch the right one, or correct --sha256 or "
                "MODEL_SHA256"
            )
        if self.signed_by is not None:
            try:
                check_signature(archive, found, self.signed_by)
            except SignatureError as error:
                raise ArchiveError(str(error)) from error

    def __bool__(self) -> bool:
        return bool(self.sha256) or self.signed_by is not None


#: Any archive will do.
NO_DEMANDS = Demands()


@dataclass(frozen=True)
class Archive:
    """An open archive, checked but for the content of its files.

    Attributes:
        digests: of the files by name; None where an older archive has no list of them.
        vouched_for: whether the whole archive is one that was demanded.
    """

    path: Path
    digests: dict[str, str] | None
    vouched_for: bool
    _members: Members
    _stamp: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return self._members.size

    def read(self, name: str) -> bytes:
        """Return the content of a small file, whose digest is not checked; empty without one."""
        return self._members.read(name) if name in self._members.names else b""

    def unpack(self, folder: Path) -> None:
        """Write all files into a folder; ArchiveError if one is not what its digest says."""
        if self.digests is None and not self.vouched_for:
            logger.warning(
                "%s is of an older version, without digests of its files: checksums find damage, "
                "nothing finds a change; %s makes it anew",
                self.path,
                command("archive"),
            )
        for name in self._members.names:
            found = self._unpack_one(name, folder / name)
            if self.digests is not None and found != self.digests.get(name, found):
                raise self._members.refused(
                    f"is damaged: the sha256 of {name} is not the one in {SUMS_FILE}"
                )
        if _stamp(self._members.file) != self._stamp:
            raise ArchiveError(
                f"{self.path} was changed while it was read; start again once it is complete"
            )

    def _unpack_one(self, name: str, target: Path) -> str:
        """Write a file; return its sha256."""
        digest = hashlib.sha256()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                for chunk in self._members.chunks(name):
                    digest.update(chunk)
                    file.write(chunk)
        except OSError as error:  # a file in the place of a folder, a name that is too long
            if error.errno in OF_THE_DISK:
                raise
            raise self._members.refused(f"is damaged ({error.strerror}: {quoted(name)})") from error
        return digest.hexdigest()


@contextmanager
def open_archive(path: Path, demands: Demands = NO_DEMANDS) -> Iterator[Archive]:
    """Open an archive; ArchiveError if it is not what is demanded, or cannot be unpacked safely."""
    if not path.is_file():
        raise ArchiveError(f"{path}: no such archive; {command('archive')} makes it")
    try:
        file = path.open("rb")
    except OSError as error:
        raise ArchiveError(f"{path} cannot be read ({error.strerror})") from error
    with file:
        stamp = _stamp(file)
        demands.check(path, file)
        members = Members(path, file, REMEDY, ArchiveError)
        # A cut archive may still end with a whole zip: that of the traced model within it.
        if MANIFEST not in members.names:
            raise members.refused(f"is damaged, or no archive: it has no {MANIFEST}")
        yield Archive(path, _read_digests(members), bool(demands), members, stamp)


def _read_digests(members: Members) -> dict[str, str] | None:
    """Return the digests of an archive, which are of all its other files and of no more."""
    if SUMS_FILE not in members.names:
        if _names_digests(members):
            raise members.refused(f"has lost its {SUMS_FILE}")
        return None
    try:
        digests = read_sums(members.read(SUMS_FILE).decode())
    except ValueError as error:
        raise members.refused(f"has a damaged {SUMS_FILE} ({error})") from error
    for name in members.names:
        if name not in digests and name != SUMS_FILE:
            raise members.refused(f"has a file that was not packed with it, {quoted(name)}")
    for name in digests:
        if name not in members.names:
            raise members.refused(f"has lost its file {quoted(name)}")
    return digests


def _names_digests(members: Members) -> bool:
    """Return whether an archive's manifest says that it was packed with digests."""
    try:
        manifest = json.loads(members.read(MANIFEST)) if MANIFEST in members.names else {}
        return SUMS_KEY in manifest
    except (ValueError, TypeError, RecursionError) as error:
        raise members.refused(f"has a {MANIFEST} that cannot be read") from error


def _stamp(file: BufferedReader) -> tuple[int, ...]:
    """Return what changes where somebody writes into an open file."""
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def read_config(archive: Path) -> str:
    """Return the normalised config that an archive was made from; empty where it has none."""
    with open_archive(archive) as opened:
        return opened.read(CONFIG_FILE).decode("utf-8", "replace")


@dataclass(frozen=True)
class ArchivedBatching:
    """Keys of an archive's config; the defaults are those of archives that lack them."""

    optimize_for: str = "latency"
    batch_size: int = 8
    max_batch_delay: int = 5


def read_batching(folder: Path) -> ArchivedBatching:
    """Return what the config of an unpacked archive says about batches and their goal."""
    config = _read_json(folder / CONFIG_FILE) if (folder / CONFIG_FILE).is_file() else {}
    if not isinstance(config, dict):
        raise ArchiveError(f"its {CONFIG_FILE} has no keys")
    names = (field.name for field in fields(ArchivedBatching))
    batching = ArchivedBatching(**{name: config[name] for name in names if name in config})
    if batching.optimize_for not in [*GOALS]:
        raise ArchiveError(
            f"its {CONFIG_FILE} has the optimize_for {batching.optimize_for!r}, not one of "
            f"{', '.join(GOALS)}"
        )
    return batching


def read_unpacked_samples(folder: Path) -> list[str]:
    """Return the bodies of requests to try an unpacked archive with: one at least."""
    samples = _read_json(folder / SAMPLES_FILE)
    if not isinstance(samples, list) or not samples:
        raise ArchiveError(f"its {SAMPLES_FILE} has no samples")
    return [str(sample) for sample in samples]


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


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArchiveError(f"its {path.name} cannot be read") from error
