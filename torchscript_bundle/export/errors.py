"""What can go wrong at build time, and how a command tells it."""

from __future__ import annotations

import sys


class ExportError(Exception):
    """Nothing was written; the message is one sentence (or a line for each fault) with the fix."""


def print_error(error: Exception) -> None:
    """Writes an error to stderr, each line of it marked."""
    print("\n".join(f"error: {line}" for line in str(error).splitlines()), file=sys.stderr)
