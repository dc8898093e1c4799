"""Tokens, one by one -> pieces of text, each of whole characters."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tokenizers import Tokenizer

#: Source: PreTrainedTokenizerBase.clean_up_tokenization.
CLEANED = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")
#: Characters at the end of a text that later ones may change. Each pattern, applied one after
#: another, shifts and changes at most its own length less one.
UNSETTLED = sum(len(each) - 1 for each in CLEANED)
#: A byte of a character that has no token, as SentencePiece models spell it.
BYTE = re.compile(r"<0x[0-9A-F]{2}>")
REPLACEMENT = "\ufffd"


def clean_up(text: str) -> str:
    """Remove the spaces that a tokenizer puts before punctuation and English contractions."""
    for each in CLEANED:
        text = text.replace(each, each.strip())
    return text


class Detokenizer:
    """Decodes an answer while it is generated.

    The pieces, joined, equal the decoding of all tokens at once after the prompt (token ids): a
    space that a tokenizer drops at the beginning of a text is kept between prompt and answer.
    `clean_up` removes spaces before punctuation, as some models' tokenizers do.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], *, clean_up: bool) -> None:
        self._tokenizer = tokenizer
        self._clean_up = clean_up
        # Decoding all tokens at each step would take ever longer. The last piece is enough to show
        # how the next one continues it.
        self._window = list(prompt)
        self._old = len(self._window)
        self._shown = self._last = self._decode()
        self._raw = ""
        self._given = 0

    def feed(self, token: int) -> str:
        """Return the next piece, empty while a character is incomplete."""
        self._window.append(token)
        text = self._decode()
        # A token without text may stand between the bytes of a character.
        silent, self._last = text == self._last, text
        if silent or text.endswith(REPLACEMENT) or self._is_byte(token):
            return ""
        return self._take(text, UNSETTLED if self._clean_up else 0)

    def rest(self) -> str:
        """Return the rest at the end, incomplete characters included."""
        return self._take(self._decode(), 0)

    def _take(self, text: str, unsettled: int) -> str:
        if piece := text[len(self._shown) :]:
            self._raw += piece
            self._window = self._window[self._old :]
            self._old = len(self._window)
            self._shown = self._last = self._decode()
        cleaned = clean_up(self._raw) if self._clean_up else self._raw
        start, self._given = self._given, max(self._given, len(cleaned) - unsettled)
        return cleaned[start : self._given]

    def _is_byte(self, token: int) -> bool:
        """Byte tokens are decoded together: one that does not fit spoils all before it."""
        return BYTE.fullmatch(self._tokenizer.id_to_token(token) or "") is not None

    def _decode(self) -> str:
        return str(self._tokenizer.decode(self._window, skip_special_tokens=True))
