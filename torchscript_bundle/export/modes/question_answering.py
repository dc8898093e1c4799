"""Extractive question answering: for each token, how well an answer starts and ends there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.modes.base import ExportMode
from torchscript_bundle.export.quality.decisions import Comparison, Item, RowOutputs
from torchscript_bundle.export.source import Source
from torchscript_bundle.export.tokenizer_file import check_methods
from torchscript_bundle.serving.artifact import Output
from torchscript_bundle.serving.modes.mode_options import ModeOptions, QuestionAnsweringOptions

#: Most tokens of an answer in `compare`: the default of requests.
LONGEST_ANSWER = 15
#: Fewest tokens that must be left for a question and a window of its context.
LEAST_ROOM = 8


class QuestionAnswering(ExportMode):
    outputs = (Output("start_logits", per_token=True), Output("end_logits", per_token=True))
    pairs = "always"
    traced_dimensions = 2

    def options(self, source: Source, config: SetupConfig) -> QuestionAnsweringOptions:
        backend = _plain(source.tokenizer)
        pair = backend.encode("a", "a")
        least = sum(pair.special_tokens_mask) + LEAST_ROOM
        if config.max_length < least:
            raise ExportError(
                f"max_length is {config.max_length}; a question and a window of its context need "
                f"at least {least} tokens, set max_length in setup_config.json higher"
            )
        null = source.tokenizer.cls_token_id
        # A tokenizer that takes a text for one word cannot round answers to words.
        words = set(backend.encode("a a", add_special_tokens=False).word_ids) - {None}
        return QuestionAnsweringOptions(null if null in pair.ids else None, len(words) > 1)

    def example_options(self, source: Source, config: SetupConfig) -> ModeOptions:
        # Answers are spelled by tokenizer.json alone.
        check_methods(source.tokenizer, ("convert_ids_to_tokens", "convert_tokens_to_string"))
        return ModeOptions()

    def compare(self, expected: Item, actual: Item, options: Mapping[str, Any]) -> Comparison:
        """Compare the best span and its score: window, first and last token."""
        before, after = (
            torch.nn.utils.rnn.pad_sequence([_spans(row) for row in rows])
            for rows in (expected, actual)
        )
        best = int(before.argmax())
        same = best == int(after.argmax())
        change = abs(before.flatten()[best] - after.flatten()[best]).item()
        return Comparison(1, int(same), (change,))


def _spans(row: RowOutputs) -> torch.Tensor:
    """Return the score of each span of a window, `[length * length]`; 0 for impossible ones."""
    starts, ends = (logits.softmax(-1) for logits in row.outputs)
    spans = (starts[:, None] * ends[None, :]).triu().tril(LONGEST_ANSWER - 1)
    return spans.masked_fill(row.special[:, None] | row.special[None, :], 0.0).flatten()


def _plain(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """Return the tokenizer without the padding and truncation that some are saved with."""
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_padding()
    backend.no_truncation()
    return backend
