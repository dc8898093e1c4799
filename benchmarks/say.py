"""What is going on, while it goes on."""

from __future__ import annotations

import sys


def say(message: str) -> None:
    """A line beside the tables, which alone go to the standard output."""
    print(f"  ... {message}", file=sys.stderr, flush=True)
