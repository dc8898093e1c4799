"""Strings that end an answer, found while it is written."""

from __future__ import annotations

from collections.abc import Sequence


class StopStringMatcher:
    """Looks for stop strings in a text that comes in pieces, wherever these are cut.

    The first complete string counts; of several that end at the same character, the longest.
    Special tokens are searched as spelled, though not shown. `keep` leaves the string in the text;
    otherwise a possible beginning of one is held back until more text decides.
    """

    def __init__(self, stops: Sequence[str], *, keep: bool) -> None:
        self._stops = stops
        self._keep = keep
        self._longest = max(map(len, stops), default=0)
        self._tail = ""
        #: What is shown of each character of the tail: itself or nothing.
        self._shown: list[str] = []
        self._held = 0
        self.found = False

    def feed(self, piece: str, *, special: bool = False) -> str:
        """Return the text to show after this piece; nothing once a stop string is found.

        A `special` piece spells a special token, which is not shown.
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
        self._held = 0 if self._keep else self._partial_match(text)
        kept = max(0, len(text) - self._longest + 1)
        self._tail, self._shown = text[kept:], shown[kept:]
        return "".join(shown[begin : len(text) - self._held])

    def rest(self) -> str:
        """Return the text that is still held back, at the end."""
        held = "".join(self._shown[len(self._shown) - self._held :])
        self._held = 0
        return held

    def _partial_match(self, text: str) -> int:
        """Return the length of the longest end of the text that begins a stop string."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
