"""Sequence classification: texts, or pairs of them, -> labels and scores.

Answers as the Hugging Face text-classification task does: `{"label", "score"}`, or the best labels
in a list where `top_k` is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from torchscript_bundle.serving.api import fields
from torchscript_bundle.serving.api.json_schema import (
    NUMBER,
    TRUE,
    JsonSchema,
    array,
    either,
    record,
    words,
)
from torchscript_bundle.serving.artifact import REMAKE, Bundle
from torchscript_bundle.serving.errors import ArtifactError
from torchscript_bundle.serving.explanations.target import Label, Target
from torchscript_bundle.serving.modes.base import Computed, Query
from torchscript_bundle.serving.text.pairs import no_pairs
from torchscript_bundle.serving.text.tokenizer import Truncation

#: logits `[labels]` -> scores `[labels]`, by the model's `problem_type`.
#: Source: transformers' TextClassificationPipeline.postprocess.
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "single_label_classification": lambda logits: torch.softmax(logits, dim=-1),
    "multi_label_classification": torch.sigmoid,
    "regression": lambda logits: logits,
}


@dataclass(frozen=True)
class NoSecondText(fields.Field):
    """What stands in the place of a second text where the model takes one alone."""

    def check(self, value: object) -> str:
        raise no_pairs()

    def bounds(self) -> JsonSchema:
        return {"not": {}}


class SequenceClassification:
    """See the module."""

    truncation = Truncation()
    inference_client_defaults: Mapping[str, object] = {"top_k": None}

    def __init__(self, bundle: Bundle) -> None:
        problem_type = bundle.mode_options.get("problem_type")
        if problem_type not in ACTIVATIONS:
            raise ArtifactError(
                f"bundle.json: mode_options.problem_type is {problem_type!r}; "
                f"known are {', '.join(ACTIVATIONS)}; {REMAKE}"
            )
        self._activation = ACTIVATIONS[problem_type]
        self._labels = bundle.labels
        second = "A second text that belongs to the first."
        pair = NoSecondText if bundle.pairs is False else fields.Text
        self.item_keys = fields.named(fields.TEXT, pair("text_pair", second), fields.UNREAD_TARGET)
        top_k = "How many labels, the best first; null for all. Without it the best one, bare."
        self.target_parameters = fields.named(
            Label("target", "The label whose score is explained.", labels=self._labels)
        )
        self.parameters = fields.named(
            fields.Whole("top_k", top_k, least=1, null=len(bundle.labels))
        )
        entry = record({"label": words(bundle.labels), "score": NUMBER}, {"truncated": TRUE})
        self.answer_schema = either(entry, array(entry, minItems=1))

    def decode(self, item: object, parameters: Mapping[str, object]) -> Query:
        top_k: int | None = fields.read_values(self.parameters, parameters)["top_k"]
        read = fields.read_item(self.item_keys, item)
        text, text_pair = read["text"], read["text_pair"]
        return Query([text if text_pair is None else (text, text_pair)], top_k)

    def encode(self, query: Query, computed: Sequence[Sequence[Computed]]) -> Any:
        [[text]] = computed
        top_k: int | None = query.options
        scores = self._activation(text.outputs[0].float().cpu())
        best = torch.sort(scores, descending=True, stable=True).indices.tolist()[: top_k or 1]
        truncated = {"truncated": True} if text.row.truncated else {}
        entries = [
            {"label": self._labels[index], "score": scores[index].item(), **truncated}
            for index in best
        ]
        return entries[0] if top_k is None else entries

    def check_target(self, query: Query, wanted: Mapping[str, Any]) -> None:
        """Any label may be explained."""

    def targets(
        self, query: Query, computed: Sequence[Sequence[Computed]], wanted: Mapping[str, Any]
    ) -> list[Target]:
        """The logit of the label that is asked for, else of the best one."""
        [[text]] = computed
        [sent] = query.texts
        target: int | None = wanted["target"]
        index = int(text.outputs[0].argmax()) if target is None else target
        pair = (sent,) if isinstance(sent, str) else sent
        texts = dict(zip(("text", "text_pair"), pair, strict=False))
        return [Target(self._labels[index], text.row, texts, 0, (index,))]

    def inference_client_reply(self, answers: Sequence[Any], listed: bool) -> Any:
        """A list of labels for each text, in a list even for one text."""
        return answers

    def plain_text(self, answer: Any) -> str:
        if isinstance(answer, list):
            return "\n".join(self.plain_text(entry) for entry in answer)
        return str(answer["label"])
