"""The rows as docs/architectures.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import transformers

from architectures.check import Row
from architectures.heads import HEADS

HEADER = """\
# Architectures

Every text architecture of transformers {transformers}, tiny and random, through the exporter, on
torch {torch}. Made by `make architectures` in {seconds} s.

*Exact* means that the traced file answers as the eager model does, within 1e-5 of the output's
scale, at the batch sizes and lengths that the next two columns say. *Traced* lengths are those that
the config asks for; shorter texts are padded to the next. What could not be proven is refused, with
the reason: nothing is exported unproven. What needs more than a text is out of scope.
"""


def markdown(rows: Sequence[Row], seconds: float) -> str:
    """The page: versions, counts for each mode, and a table for each mode."""
    parts = [
        HEADER.format(
            transformers=transformers.__version__,
            torch=torch.__version__.split("+")[0],
            seconds=round(seconds),
        ),
        *_counts(rows),
    ]
    for head in HEADS:
        parts += ["", f"## {head}", "", *_table([row for row in rows if row.head == head])]
    return "\n".join(parts) + "\n"


def share(rows: Iterable[Row]) -> float:
    """Exported share of the rows that take text alone."""
    inside = [row for row in rows if row.status != "out of scope"]
    return sum(row.status == "exact" for row in inside) / len(inside)


def _counts(rows: Sequence[Row]) -> Iterable[str]:
    yield "| mode | architectures | any batch and length | fixed in one | refused | crashed |" + (
        " out of scope | exported, of those in scope |"
    )
    yield "| --- " * 8 + "|"
    names = [*HEADS, "all"]
    for name in names:
        mine = [row for row in rows if name in (row.head, "all")]
        if not mine:
            continue
        exact = [row for row in mine if row.status == "exact"]
        free = sum(row.batch == row.length == "any" for row in exact)
        others = [
            sum(row.status == status for row in mine)
            for status in ("refused", "crashed", "out of scope")
        ]
        cells = [name, len(mine), free, len(exact) - free, *others, f"{share(mine):.1%}"]
        yield f"| {' | '.join(map(str, cells))} |"


def _table(rows: Iterable[Row]) -> Iterable[str]:
    yield "| architecture | exported | batch | length | note |"
    yield "| --- | --- | --- | --- | --- |"
    for row in rows:
        note = row.note.replace("|", "\\|")
        yield f"| {row.model_type} | {row.status} | {row.batch} | {row.length} | {note} |"
