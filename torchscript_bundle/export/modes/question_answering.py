"""Extractive question answering: for each token, how well an answer starts and ends there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.modes.base import Pairs
from torchscript_bundle.export.quality.decisions import Comparison, Item, RowOutputs
from torchscript_bundle.export.wrappers import wrap_model
from torchscript_bundle.serving.artifact import Output

if TYPE_CHECKING:
    from torchscript_bundle.export.config import SetupConfig
    from torchscript_bundle.export.source import Source

#: Most tokens of an answer in `compare`: what requests get that do not say.
LONGEST_ANSWER = 15
#: Fewest tokens that must be left for a question and a window of its context.
LEAST_ROOM = 8


class QuestionAnswering:
    """See the module."""

    artifacts_dir = "QA_artifacts"
    auto_class = "AutoModelForQuestionAnswering"
    outputs = (Output("start_logits", per_token=True), Output("end_logits", per_token=True))
    pairs: Pairs = "always"
    explained = True
    settings = ()
    unused_weights = ()

    def wrap(
        self, model: torch.nn.Module, inputs: Sequence[str], options: Mapping[str, Any]
    ) -> torch.nn.Module:
        return wrap_model(model, inputs, tuple(output.name for output in self.outputs))

    def labels(self, model_config: Any, num_labels: int | None, artifacts: Path) -> tuple[str, ...]:
        return ()

    def options(self, source: Source, config: SetupConfig) -> dict[str, Any]:
        """The token that stands for "no answer", and whether the tokenizer tells words apart.

        A tokenizer that does not (it takes a text for one word) cannot round answers to words.
        """
        backend = _plain(source.tokenizer)
        pair = backend.encode("a", "a")
        least = sum(pair.special_tokens_mask) + LEAST_ROOM
        if config.max_length < least:
            raise ExportError(
                f"max_length is {config.max_length}; a question and a window of its context need "
                f"at least {least} tokens, set max_length in setup_config.json higher"
            )
        null = source.tokenizer.cls_token_id
        words = set(backend.encode("a a", add_special_tokens=False).word_ids) - {None}
        return {"null_token": null if null in pair.ids else None, "has_words": len(words) > 1}

    def compare(self, expected: Item, actual: Item, options: Mapping[str, Any]) -> Comparison:
        """The answer: window, first and last token. Its score is that of the span in float32."""
        before, after = (
            torch.nn.utils.rnn.pad_sequence([_spans(row) for row in rows])
            for rows in (expected, actual)
        )
        best = int(before.argmax())
        same = best == int(after.argmax())
        change = abs(before.flatten()[best] - after.flatten()[best]).item()
        return Comparison(1, int(same), (change,))


def _spans(row: RowOutputs) -> torch.Tensor:
    """The score of each span of a window, `[length * length]`; 0 where no answer can be."""
    starts, ends = (logits.softmax(-1) for logits in row.outputs)
    spans = (starts[:, None] * ends[None, :]).triu().tril(LONGEST_ANSWER - 1)
    return spans.masked_fill(row.special[:, None] | row.special[None, :], 0.0).flatten()


def _plain(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """The tokenizer without the padding and truncation that some are saved with."""
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_padding()
    backend.no_truncation()
    return backend
