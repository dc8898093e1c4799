"""Strings that end an answer, found while it is written."""

from __future__ import annotations

from collections.abc import Sequence


class StopFinder:
    """Looks for stop strings in a text that comes in pieces.

    Where the pieces are cut makes no difference: the string that is complete first counts; of
    several complete at the same letter, the longest.

    Args:
        stops: the strings; none finds nothing.
        keep: whether the text keeps the one that was found. Else what may be the beginning of one
            is held back until it is known not to be.
    """

    def __init__(self, stops: Sequence[str], keep: bool) -> None:
        self._stops = stops
        self._keep = keep
        self._longest = max(map(len, stops), default=0)
        self._tail = ""
        self._held = 0
        self.found = False

    def feed(self, piece: str) -> str:
        """What of the text can be shown, now that a piece has come. Nothing, once one is found."""
        if self.found:
            return ""
        text = self._tail + piece
        ends = [
            (at + len(stop), -len(stop)) for stop in self._stops if (at := text.find(stop)) >= 0
        ]
        shown_before = len(self._tail) - self._held
        if ends:
            self.found = True
            end, negative = min(ends)
            return text[shown_before : end if self._keep else max(end + negative, shown_before)]
        self._held = 0 if self._keep else self._beginning(text)
        shown = text[shown_before : len(text) - self._held]
        self._tail = text[max(0, len(text) - self._longest + 1) :] if self._longest else ""
        return shown

    def rest(self) -> str:
        """What was held back, at the end of the text."""
        held = self._tail[len(self._tail) - self._held :]
        self._held = 0
        return held

    def _beginning(self, text: str) -> int:
        """Length of the longest end of a text that a stop string begins with."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
