"""Texts -> rows of token ids, with the artifact's own tokenizer.json."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tokenizers import Encoding, Tokenizer

from torchscript_bundle.serving.artifact import TOKENIZER_FILE, Bundle
from torchscript_bundle.serving.errors import ArtifactError, RequestError

#: Most tokens of a pair that tokenizers may keep, a kilobyte each. It also keeps cut-off pieces:
#: where both texts are cut, every combination of them.
MOST_KEPT = 2**16
#: The same for all pairs of a request.
MOST_KEPT_TOGETHER = 2**18

#: A text or a pair, such as a question and its context.
TextInput = str | tuple[str, str]
#: An end of a text.
Side = Literal["left", "right"]


@dataclass(frozen=True)
class Truncation:
    """The way to cut a text that is too long; `strategy` chooses the text of a pair.

    `windows` reads the whole text in overlapping windows, for one text of a pair.
    """

    strategy: Literal["longest_first", "only_first", "only_second"] = "longest_first"
    windows: bool = False


@dataclass(frozen=True)
class Row:
    """The tokens of one text or one window of it, special tokens included.

    Attributes:
        input_ids: `[length]`.
        type_ids: `[length]`, the segment of each token.
        truncated: the text was cut to `max_length` tokens.
        too_long: it has more than `max_length` tokens and was not cut.
        encoding: the tokenizer's facts of each token: offsets, words, which text it is from.
        padding: how many of the tokens are padding whose outputs a mode needs; mostly none.
        unpooled: leading tokens that a pooling leaves out: those of a prompt.
    """

    input_ids: list[int]
    type_ids: list[int]
    truncated: bool
    too_long: bool
    encoding: Encoding | None = field(default=None, compare=False)
    padding: int = 0
    unpooled: int = 0

    def __len__(self) -> int:
        return len(self.input_ids)

    def stretched(self, length: int) -> Row:
        """Return the row with its middle token repeated up to at least `length` tokens."""
        middle, gap = len(self) // 2, max(0, length - len(self))
        input_ids, type_ids = (
            values[:middle] + [values[middle]] * gap + values[middle:]
            for values in (self.input_ids, self.type_ids)
        )
        return Row(input_ids, type_ids, self.truncated, self.too_long)


class TextEncoder:
    """Tokenizes as the model's own tokenizer does; export proves the two equal.

    Texts over `max_length` tokens are cut if `truncate`, else only marked. Without `typed`, the
    second text of a pair has the token types of the first.
    """

    def __init__(
        self,
        folder: Path,
        bundle: Bundle,
        *,
        truncate: bool,
        truncation: Truncation = Truncation(),
        max_windows: int = 64,
        typed: bool = True,
    ) -> None:
        path = folder / TOKENIZER_FILE
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception
            raise ArtifactError(f"{path} cannot be read by tokenizers: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._bundle = bundle
        self._truncate = truncate or truncation.windows
        self._truncation = truncation
        self._max_windows = max_windows
        self._typed = typed
        if self._truncate:
            self._enable_truncation(stride=0)

    @property
    def tokenizer(self) -> Tokenizer:
        """The artifact's tokenizer, for modes that look up tokens."""
        return self._tokenizer

    def encode(
        self, text: TextInput, stride: int = 0, share: int = 1, side: Side | None = None
    ) -> list[Row]:
        """Return the row of a text or a pair, or one row for each of its windows.

        Windows overlap in `stride` tokens; `share` is the number of texts that share the request's
        memory. A text that is not taken in windows is cut at `side`, by default the model's own.
        A text gets a 413 if the uncut text of its pair leaves no room, or for its length.
        """
        if side is None or not self._truncate:
            return self._encode(text, stride, share)
        self._enable_truncation(stride=0, side=side)
        try:
            return self._encode(text, stride, share)
        finally:
            self._enable_truncation(stride=0)

    def encode_uncut(self, text: str, *, special_tokens: bool) -> Encoding:
        """Return all tokens of a text, however long."""
        self._tokenizer.no_truncation()
        try:
            return self._tokenizer.encode(text, add_special_tokens=special_tokens)
        finally:
            if self._truncate:
                self._enable_truncation(stride=0)

    def _encode(self, text: TextInput, stride: int, share: int) -> list[Row]:
        first, second = text if isinstance(text, tuple) else (text, None)
        if second is not None and self._truncate and self._truncation.strategy == "longest_first":
            self._check_pieces(first, second, share)
        encoding = self._tokenize(first, second)
        if self._truncation.windows and encoding.overflowing:
            self._check_windows(encoding, stride)
            if stride:
                encoding = self._tokenize_overlapping(first, second, stride)
        windows = [encoding, *encoding.overflowing] if self._truncation.windows else [encoding]
        return [
            Row(
                input_ids=window.ids,
                type_ids=window.type_ids if self._typed else [0] * len(window.ids),
                truncated=len(windows) == 1 and bool(encoding.overflowing),
                too_long=len(window.ids) > self._bundle.max_length,
                encoding=window,
            )
            for window in windows
        ]

    def _tokenize(self, first: str, second: str | None) -> Encoding:
        try:
            return self._tokenizer.encode(first, second)
        except Exception as error:  # tokenizers raises bare Exception
            if "runcation" not in str(error):
                raise
            raise RequestError(
                413,
                f"the texts together are over {self._bundle.max_length} tokens and the one that "
                "may be cut is too short for that; shorten the other",
            ) from None

    def _tokenize_overlapping(self, first: str, second: str | None, stride: int) -> Encoding:
        self._enable_truncation(stride)
        try:
            return self._tokenize(first, second)
        finally:
            self._enable_truncation(stride=0)

    def _check_pieces(self, first: str, second: str, share: int) -> None:
        """Refuse a pair that would fill the memory while it is cut, alone or with the others."""
        pieces = math.prod(
            1 + len(self._tokenizer.encode(text, add_special_tokens=False).overflowing)
            for text in (first, second)
        )
        if pieces > 1 and pieces * self._bundle.max_length > min(
            MOST_KEPT, MOST_KEPT_TOGETHER // share
        ):
            raise RequestError(
                413,
                f"the texts of the pair are far over {self._bundle.max_length} tokens; "
                "shorten them, or send fewer pairs at a time",
            )

    def _check_windows(self, encoding: Encoding, stride: int) -> None:
        """Refuse too many windows, or ones without new tokens, before they are made to overlap."""
        owner = 0 if self._truncation.strategy == "only_first" else encoding.n_sequences - 1
        sizes = [each.sequence_ids.count(owner) for each in (encoding, *encoding.overflowing)]
        room = sizes[0]
        if stride >= room:
            raise RequestError(
                413,
                f"a window has room for {room} tokens of the text, which is no more than the "
                f"{stride} that it shares with the one before it; share fewer, or shorten what "
                "stands in every window",
            )
        count = 1 + math.ceil((sum(sizes) - room) / (room - stride))
        if count > self._max_windows:
            raise RequestError(
                413,
                f"the text makes {count} windows of {self._bundle.max_length} tokens; send a "
                f"shorter one, {self._max_windows} windows at a time",
            )

    def _enable_truncation(self, stride: int, side: Side | None = None) -> None:
        self._tokenizer.enable_truncation(
            self._bundle.max_length,
            stride=stride,
            strategy=self._truncation.strategy,
            direction="right" if self._truncation.windows else side or self._bundle.truncation_side,
        )
