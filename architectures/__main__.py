"""`python -m architectures [model_type ...]`: try some, or all of them and write the table."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from rich.progress import Progress

from architectures.check import Row
from architectures.sweep import jobs, sweep
from architectures.table import markdown, share

PAGE = Path(__file__).resolve().parent.parent / "docs" / "architectures.md"


def main(names: list[str]) -> int:
    """Runs the sweep; returns 1 if an architecture crashed."""
    chosen = [job for job in jobs() if not names or job[1] in names]
    if not chosen:
        print(f"error: no architecture is called {', '.join(names)}", file=sys.stderr)
        return 1
    started = time.perf_counter()
    rows: list[Row] = []
    with Progress() as progress:
        task = progress.add_task("export and verify", total=len(chosen))
        for row in sweep(chosen):
            rows.append(row)
            progress.advance(task)
            if names or row.status in ("refused", "crashed"):
                progress.console.print(_line(row), soft_wrap=True, markup=False)
    seconds = time.perf_counter() - started
    print(f"{len(rows)} in {seconds:.0f} s, {share(rows):.1%} of those in scope exported")
    if not names:
        PAGE.write_text(markdown(rows, seconds), encoding="utf-8")
        print(f"wrote {PAGE}")
    return int(any(row.status == "crashed" for row in rows))


def _line(row: Row) -> str:
    what = f"batch {row.batch}, length {row.length}" if row.batch else row.status
    return f"{row.head} {row.model_type}: {what} {row.note} ({row.seconds:.1f} s)"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
