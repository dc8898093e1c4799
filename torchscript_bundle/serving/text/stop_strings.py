"""Strings that end an answer, found while it is written."""

from __future__ import annotations

from collections.abc import Sequence


class StopFinder:
    """Looks for stop strings in a text that comes in pieces.

    Where the pieces are cut makes no difference: the string that is complete first counts; of
    several complete at the same letter, the longest. Special tokens are looked at as they are
    spelled, though they are not shown.

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
        #: Of each letter of the tail, what of it is shown: itself or nothing.
        self._shown: list[str] = []
        self._held = 0
        self.found = False

    def feed(self, piece: str, *, special: bool = False) -> str:
        """What of the text can be shown, now that a piece has come. Nothing, once one is found.

        Args:
            piece: letters.
            special: whether they spell a special token, which is not shown.
        """
        if self.found:
            return ""
        if not self._stops:
            return "" if special else piece
        text, shown = self._tail + piece, [*self._shown, *([""] * len(piece) if special else piece)]
        begin = len(self._tail) - self._held
        ends = [
            (at + len(stop), -len(stop)) for stop in self._stops if (at := text.find(stop)) >= 0
        ]
        if ends:
            self.found = True
            end, negative = min(ends)
            return "".join(shown[begin : end if self._keep else max(end + negative, begin)])
        self._held = 0 if self._keep else self._beginning(text)
        kept = max(0, len(text) - self._longest + 1)
        self._tail, self._shown = text[kept:], shown[kept:]
        return "".join(shown[begin : len(text) - self._held])

    def rest(self) -> str:
        """What was held back, at the end of the text."""
        held = "".join(self._shown[len(self._shown) - self._held :])
        self._held = 0
        return held

    def _beginning(self, text: str) -> int:
        """Length of the longest end of a text that a stop string begins with."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
