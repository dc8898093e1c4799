"""Read the members of a zip that anybody may have made: plain files, of bounded number and size."""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from torchscript_bundle.disk import OF_THE_DISK

#: An archive of ours has about 150.
MOST_MEMBERS = 10_000
#: Most bytes of a member that is read into memory: the largest vocabularies take 35 MB.
MOST_IN_MEMORY = 100_000_000
#: Most bytes, beyond those, that a byte of the zip may stand for: weights hardly compress.
MOST_RATIO = 100
#: The two that archivers use; a member in LZMA could ask for gigabytes of memory.
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
ENCRYPTED = 1
LONGEST_SHOWN = 100
CHUNK = 1 << 20


class Members:
    """The members of an open zip.

    Attributes:
        names: of all files, in the order of the zip.
        size: bytes of all files together.
        file: the open zip itself.
    """

    def __init__(
        self, path: Path, file: BufferedReader, remedy: str, failure: type[Exception]
    ) -> None:
        self._path, self._remedy, self._failure = path, remedy, failure
        self.file = file
        with self._damage_told():
            self._zip = zipfile.ZipFile(file)
        entries = self._zip.infolist()
        fault = next(_faults(entries, os.fstat(file.fileno()).st_size), None)
        if fault is not None:
            raise self.refused(fault)
        self._entries = {each.filename: each for each in entries if not each.is_dir()}
        self.names = self._entries.keys()
        self.size = sum(each.file_size for each in self._entries.values())

    def refused(self, fault: str) -> Exception:
        """Return the error that says what is wrong with the zip."""
        return self._failure(f"{self._path} {fault}; {self._remedy}")

    def chunks(self, name: str) -> Iterator[bytes]:
        """Return the content of a member, piece by piece; at the end its CRC was right."""
        with self._damage_told(), self._zip.open(self._entries[name]) as source:
            while chunk := source.read(CHUNK):
                yield chunk

    def read(self, name: str) -> bytes:
        """Return the content of a member that fits into memory."""
        size = self._entries[name].file_size
        if size > MOST_IN_MEMORY:
            raise self.refused(
                f"has a {name} that would unpack to {size / 1e6:.0f} MB, more than such a file "
                "can have"
            )
        return b"".join(self.chunks(name))

    @contextmanager
    def _damage_told(self) -> Iterator[None]:
        """Turn what zipfile raises for a zip of nonsense into one sentence."""
        try:
            yield
        except OSError as error:
            if error.errno in OF_THE_DISK:
                raise self._failure(f"{self._path} cannot be read ({error.strerror})") from error
            raise self.refused(f"is damaged ({error})") from error
        except EOFError as error:
            raise self.refused("is damaged (it ends in the middle of a file)") from error
        # The last two are raised for forms of zip that are not known, and for wrong numbers.
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, ValueError) as error:
            raise self.refused(f"is damaged ({error})") from error


@contextmanager
def open_members(path: Path, remedy: str, failure: type[Exception]) -> Iterator[Members]:
    """Open a zip; a `failure` that ends with the `remedy` says what is wrong with it."""
    with path.open("rb") as file:
        yield Members(path, file, remedy, failure)


def _faults(entries: Sequence[zipfile.ZipInfo], size: int) -> Iterator[str]:
    """Find what makes a zip of `size` bytes unsafe to unpack."""
    if len(entries) > MOST_MEMBERS:
        yield f"has {len(entries)} members, and an archive {MOST_MEMBERS} at most"
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > max(MOST_IN_MEMORY, MOST_RATIO * size):
        yield f"would unpack to {unpacked / 1e6:.0f} MB, {unpacked // size} times its size"
    seen: set[str] = set()
    for entry in entries:
        name = entry.orig_filename
        if name in seen:
            yield f"has two members {quoted(name)}"
        seen.add(name)
        if not _stays_inside(name):
            yield f"has a member of an unsafe name, {quoted(name)}"
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            yield f"has a member that is no plain file, {quoted(name)}"
        if entry.compress_type not in METHODS or entry.flag_bits & ENCRYPTED:
            yield f"has a member packed in another way than zips usually are, {quoted(name)}"


def quoted(name: str) -> str:
    """Return a member's name as a sentence can have it; it may have 65,535 characters."""
    return repr(name if len(name) <= LONGEST_SHOWN else f"{name[:LONGEST_SHOWN]}...")


def _stays_inside(name: str) -> bool:
    """Return whether a name is of printable parts below the folder that a zip is unpacked into."""
    parts = name.removesuffix("/").split("/")
    return name.isprintable() and "\\" not in name and not {"", ".", ".."} & {*parts}
