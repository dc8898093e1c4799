"""What docs/architectures.md says."""

from __future__ import annotations

from functools import cache
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "architectures.md"


@cache
def documented() -> dict[tuple[str, str], tuple[str, str, str]]:
    """Head and architecture -> status, batch and length."""
    rows = {}
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        head, *lines = section.splitlines()
        for line in lines:
            if line.startswith("| ") and not line.startswith(("| ---", "| architecture ")):
                kind, status, batch, length = (cell.strip() for cell in line.split("|")[1:5])
                assert (head, kind) not in rows, f"{kind} stands twice"
                rows[head, kind] = (status, batch, length)
    return rows
