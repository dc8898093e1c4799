"""Stop strings in texts that come in pieces, beside a search in the whole text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from torchscript_bundle.serving.generation.stops import StopFinder

PIECES = st.lists(st.text("abc", max_size=4), max_size=8)
STOPS = st.lists(st.text("abc", min_size=1, max_size=3), max_size=3)


def expected(text: str, stops: list[str], keep: bool) -> tuple[str, bool]:
    """Letter by letter: the first that completes a stop string ends the text."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            longest = max(map(len, complete))
            return text[: end if keep else end - longest], True
    return text, False


@given(PIECES, STOPS, st.booleans())
def test_text_ends_where_a_stop_string_does(
    pieces: list[str], stops: list[str], keep: bool
) -> None:
    finder = StopFinder(stops, keep)
    shown = "".join(finder.feed(piece) for piece in pieces)
    if not finder.found:
        shown += finder.rest()
    assert (shown, finder.found) == expected("".join(pieces), stops, keep)


def test_what_may_begin_a_stop_string_waits() -> None:
    finder = StopFinder(["\n\n"], keep=False)
    assert [finder.feed(piece) for piece in ("a\n", "b", "\n", "\nc")] == ["a", "\nb", "", ""]
    assert finder.found
    assert StopFinder(["\n\n"], keep=True).feed("a\n") == "a\n"
