"""Pieces of text beside what tokenizers make of all tokens at once, for each family of them."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders

from tests import tiny
from tests.serving.generation import helpers
from torchscript_bundle.serving.text.detokenizer import REPLACEMENT, Detokenizer, clean_up


def tidying_wordpiece() -> Tokenizer:
    tokenizer = tiny.wordpiece_tokenizer().backend_tokenizer
    tokenizer.decoder = decoders.WordPiece(cleanup=True)
    return tokenizer


FAMILIES = {
    "wordpiece": lambda: tiny.spelling_wordpiece_tokenizer().backend_tokenizer,
    "tidying_wordpiece": tidying_wordpiece,
    "byte_level": lambda: helpers.byte_level().backend_tokenizer,
    "byte_fallback": lambda: helpers.byte_fallback().backend_tokenizer,
    "unigram": lambda: helpers.unigram().backend_tokenizer,
}
family = pytest.mark.parametrize("name", FAMILIES)
tokenizer = cache(lambda name: FAMILIES[name]())


def whole(used: Tokenizer, prompt: list[int], tokens: list[int]) -> str:
    before, after = (
        used.decode(ids, skip_special_tokens=True) for ids in (prompt, [*prompt, *tokens])
    )
    return str(after[len(before) :])


@family
@given(st.data())
@settings(max_examples=150, deadline=None)
def test_pieces_are_the_whole(name: str, data: st.DataObject) -> None:
    used = tokenizer(name)
    ids = st.lists(st.integers(0, used.get_vocab_size() + 3), max_size=30)
    prompt, tokens = data.draw(ids), data.draw(ids)
    detokenizer = Detokenizer(used, prompt, clean_up=False)
    pieces = [detokenizer.feed(token) for token in tokens]
    for piece in pieces:
        assert not piece.endswith(REPLACEMENT)
        piece.encode("utf-8")
    assert "".join([*pieces, detokenizer.rest()]) == whole(used, prompt, tokens)


@family
@pytest.mark.parametrize("text", [*tiny.CORPUS, "日本語 😀🎉 x", "e\u0301 👩‍👩‍👧", "a  b   c "])
def test_texts_come_in_whole_characters(name: str, text: str) -> None:
    used = tokenizer(name)
    tokens = used.encode(text, add_special_tokens=False).ids
    detokenizer = Detokenizer(used, [], clean_up=False)
    pieces = [detokenizer.feed(token) for token in tokens]
    pieces.append(detokenizer.rest())
    assert REPLACEMENT not in "".join(pieces)
    assert "".join(pieces) == used.decode(tokens)
    assert text not in tiny.CORPUS or sum(map(bool, pieces)) > 5


@given(st.lists(st.sampled_from(["do", "n", "'", "t", ".", ",", "s", "ve", "I"]), max_size=25))
@settings(deadline=None)
def test_spaces_are_cleaned_as_in_the_whole(words: list[str]) -> None:
    used = tokenizer("wordpiece")
    known = [used.token_to_id(word) for word in words]
    tokens = [each for each in known if each is not None]
    detokenizer = Detokenizer(used, [], clean_up=True)
    pieces = [detokenizer.feed(token) for token in tokens]
    assert "".join([*pieces, detokenizer.rest()]) == clean_up(used.decode(tokens))
