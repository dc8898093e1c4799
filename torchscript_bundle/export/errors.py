"""What can go wrong at build time, and how a command tells it."""

from __future__ import annotations

import sys


class ExportError(Exception):
    """Nothing was written; the message is one sentence (or a line for each fault) with the fix."""


def print_error(error: Exception) -> None:
    """Writes an error to stderr, each line of it marked; of an OSError the file and the reason."""
    message = str(error)
    if isinstance(error, OSError) and error.strerror:
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    print("\n".join(f"error: {line}" for line in message.splitlines()), file=sys.stderr)


def one_line(error: Exception) -> str:
    """The first sentence or line of a library's message, without its advice for other programs."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    heading = bool(lines) and len(lines[0]) < 80 and lines[0].endswith(":")
    return " ".join(lines[: 2 if heading else 1])[:300] or type(error).__name__
