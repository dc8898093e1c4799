"""Stop strings in texts that come in pieces, beside a search in the whole text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from torchscript_bundle.serving.api.sampling import Settings
from torchscript_bundle.serving.generation.answer import Answer
from torchscript_bundle.serving.text.detokenizer import Detokenizer
from torchscript_bundle.serving.text.stop_strings import StopStringMatcher

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
    matcher = StopStringMatcher(stops, keep=keep)
    shown = "".join(matcher.feed(piece) for piece in pieces)
    if not matcher.found:
        shown += matcher.rest()
    assert (shown, matcher.found) == expected("".join(pieces), stops, keep)


SPECIAL = st.lists(st.tuples(st.text("abc", max_size=3), st.booleans()), max_size=8)


@given(SPECIAL, STOPS, st.booleans())
def test_special_tokens_are_seen_and_not_shown(
    pieces: list[tuple[str, bool]], stops: list[str], keep: bool
) -> None:
    matcher = StopStringMatcher(stops, keep=keep)
    shown = "".join(matcher.feed(piece, special=special) for piece, special in pieces)
    if not matcher.found:
        shown += matcher.rest()
    spelled, found = expected("".join(piece for piece, _ in pieces), stops, keep)
    letters = [special for piece, special in pieces for _ in piece]
    told = "".join(each for each, special in zip(spelled, letters, strict=False) if not special)
    assert (shown, matcher.found) == (told, found)


@pytest.mark.parametrize(
    ("stop", "keep", "shown"),
    [
        (("<|im_end|>",), True, "ab"),
        (("<|im_end|>",), False, "ab"),
        (("b<|im_end|>c",), True, "abc"),
        (("b<|im_end|>c",), False, "a"),
        (("never",), True, "abcd"),
    ],
)
def test_stop_string_may_be_a_special_token(stop: tuple[str, ...], keep: bool, shown: str) -> None:
    tokens = {"a": 0, "b": 1, "c": 2, "d": 3, "?": 4}
    tokenizer = Tokenizer(models.WordLevel(tokens, unk_token="?"))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(["<|im_end|>"])
    special = tokenizer.token_to_id("<|im_end|>")
    settings = Settings(stop=stop, keep_stop=keep)
    spelling = Detokenizer(tokenizer, (), clean_up=False)
    answer = Answer([0], settings, 5, frozenset(), spelling, {special: "<|im_end|>"})
    for token in (0, 1, special, 2, 3):
        if not answer.done:
            answer.add(token, 0.0)
    assert answer.text == shown
    assert answer.reason == ("length" if stop == ("never",) else "stop_sequence")
    assert [piece.special for piece in answer.pieces[:3]] == [False, False, True]


def test_what_may_begin_a_stop_string_waits() -> None:
    matcher = StopStringMatcher(["\n\n"], keep=False)
    assert [matcher.feed(piece) for piece in ("a\n", "b", "\n", "\nc")] == ["a", "\nb", "", ""]
    assert matcher.found
    assert StopStringMatcher(["\n\n"], keep=True).feed("a\n") == "a\n"
