"""Counts of what random requests got, for the end of the test run."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


class Tally:
    """Counts by kind of test and by mode."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, Counter[object]]] = defaultdict(dict)

    def __call__(self, kind: str, mode: str, counts: Counter[object]) -> None:
        """Notes what the requests of one mode got."""
        self._counts[kind][mode] = counts

    def dump(self) -> list[tuple[str, str, dict[Any, int]]]:
        """Everything, for another process."""
        return [
            (kind, mode, dict(c)) for kind, by in self._counts.items() for mode, c in by.items()
        ]

    def add(self, dumped: Iterable[tuple[str, str, Mapping[Any, int]]]) -> None:
        """Takes over what another process has counted."""
        for kind, mode, counts in dumped:
            self(kind, mode, Counter(counts))

    def lines(self) -> Iterator[str]:
        """A line for each kind and mode, and their sums."""
        for kind, modes in self._counts.items():
            for mode, counts in modes.items():
                yield f"{kind}, {mode}: {_line(counts)}"
            yield f"{kind}, all: {_line(sum(modes.values(), Counter()))}"


def _line(counts: Counter[object]) -> str:
    each = ", ".join(f"{status} x {count}" for status, count in sorted(counts.items(), key=str))
    return f"{counts.total()} ({each})"
