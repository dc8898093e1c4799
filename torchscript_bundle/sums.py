"""The digests of an archive's files, in a file of its own that `sha256sum --check` reads."""

from __future__ import annotations

import re
from collections.abc import Mapping

MANIFEST = "MAR-INF/MANIFEST.json"
#: TorchServe unpacks it beside the manifest, and does not look at it.
SUMS_FILE = "MAR-INF/SHA256SUMS"
#: In the manifest, so that the loss of the file is seen; older archives have neither.
SUMS_KEY = "sha256sums"
LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")


def write_sums(digests: Mapping[str, str]) -> str:
    """Return the text of the file for the sha256 of each other file."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))


def read_sums(text: str) -> dict[str, str]:
    """Return the sha256 of each file; ValueError for what `write_sums` would not write."""
    lines = [LINE.fullmatch(line) for line in text.splitlines()]
    digests = {line[2]: line[1] for line in lines if line is not None}
    if write_sums(digests) != text:
        raise ValueError("not a sorted list of sha256 digests and names")
    return digests
