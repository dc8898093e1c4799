"""Texts -> rows of token ids, with the artifact's own tokenizer.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from torchscript_bundle.serving.artifact import TOKENIZER_FILE, Bundle
from torchscript_bundle.serving.errors import ArtifactError


@dataclass(frozen=True)
class Row:
    """One text as tokens, special tokens included, not padded.

    Attributes:
        input_ids: `[length]`.
        type_ids: `[length]`, the segment of each token.
        truncated: whether the text was cut to `max_length` tokens.
        too_long: whether it has more than `max_length` tokens and was not cut.
    """

    input_ids: list[int]
    type_ids: list[int]
    truncated: bool
    too_long: bool

    def __len__(self) -> int:
        return len(self.input_ids)

    def stretched(self, length: int) -> Row:
        """The row with its middle token repeated until it has `length` tokens, if it has fewer."""
        middle, gap = len(self) // 2, max(0, length - len(self))
        input_ids, type_ids = (
            values[:middle] + [values[middle]] * gap + values[middle:]
            for values in (self.input_ids, self.type_ids)
        )
        return Row(input_ids, type_ids, self.truncated, self.too_long)


class TextEncoder:
    """Tokenizes as the model's own tokenizer does; export proves the two equal.

    Args:
        folder: the artifact's folder.
        bundle: its `bundle.json`.
        truncate: cut long texts to `max_length`; else only mark them.

    Raises:
        ArtifactError: tokenizer.json cannot be read by the installed tokenizers.
    """

    def __init__(self, folder: Path, bundle: Bundle, *, truncate: bool) -> None:
        path = folder / TOKENIZER_FILE
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception
            raise ArtifactError(f"{path} cannot be read by tokenizers: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._max_length = bundle.max_length
        if truncate:
            self._tokenizer.enable_truncation(bundle.max_length, direction=bundle.truncation_side)

    def encode(self, texts: Sequence[str]) -> list[Row]:
        """One row for each text, in order."""
        return [
            Row(
                input_ids=encoding.ids,
                type_ids=encoding.type_ids,
                truncated=bool(encoding.overflowing),
                too_long=len(encoding.ids) > self._max_length,
            )
            for encoding in self._tokenizer.encode_batch(list(texts))
        ]
