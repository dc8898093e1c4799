"""Tables for the screen."""

from __future__ import annotations

from collections.abc import Sequence


def draw(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A title, a line of column names, a line for each row; the first column to the left."""
    lines = [["", *columns], *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    text = "\n".join(
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
    return f"\n{title}\n{text}"


def number(value: float) -> str:
    """Three digits that matter, or all before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
