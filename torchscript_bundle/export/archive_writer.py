"""Write a `.mar` whose last member has the digests of all others; equal content, equal bytes."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torchscript_bundle.sums import SUMS_FILE, write_sums

#: The earliest date a zip entry can have; any fixed one would do.
EPOCH = (1980, 1, 1, 0, 0, 0)


class ArchiveWriter:
    """An archive that is being written; members are stored, because weights do not compress."""

    def __init__(self, target: zipfile.ZipFile) -> None:
        self._target = target
        self.digests: dict[str, str] = {}

    def add(self, name: str, content: bytes) -> None:
        """Write a member."""
        self.add_chunks(name, [content], len(content))

    def add_chunks(self, name: str, chunks: Iterable[bytes], size: int) -> None:
        """Write a member of `size` bytes that need not be in memory at one time."""
        entry = zipfile.ZipInfo(name, EPOCH)
        entry.external_attr = 0o644 << 16
        entry.file_size = size
        digest = hashlib.sha256()
        with self._target.open(entry, "w") as writer:
            for chunk in chunks:
                writer.write(chunk)
                digest.update(chunk)
        self.digests[name] = digest.hexdigest()


@contextmanager
def writing_archive(path: Path) -> Iterator[ArchiveWriter]:
    """Write an archive; the digests are added at the end."""
    with zipfile.ZipFile(path, "w") as target:
        writer = ArchiveWriter(target)
        yield writer
        writer.add(SUMS_FILE, write_sums(writer.digests).encode())
