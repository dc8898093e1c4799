"""Errors of the build, and how a command reports them."""

from __future__ import annotations

import sys


class ExportError(Exception):
    """Nothing was written; the message is one sentence (or a line per fault) with the fix."""


def print_error(error: Exception) -> None:
    """Write an error to stderr, each line marked; of an OSError the file and the reason."""
    message = str(error)
    if isinstance(error, OSError) and error.strerror:
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    print("\n".join(f"error: {line}" for line in message.splitlines()), file=sys.stderr)


def one_line(error: Exception) -> str:
    """Return the first line of a library's message, and the next if that is a heading."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    heading = bool(lines) and len(lines[0]) < 80 and lines[0].endswith(":")
    return " ".join(lines[: 2 if heading else 1])[:300] or type(error).__name__
