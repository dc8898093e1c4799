"""Sequence classification: a text, or a pair of texts -> labels and scores.

Answers are those of Hugging Face's text-classification task: `{"label", "score"}`, or a list of the
best labels with `top_k`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

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
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.explanations.target import Label, Target
from torchscript_bundle.serving.modes.base import (
    CUT_FIELDS,
    Computed,
    CutParameters,
    ForwardMode,
    Query,
)
from torchscript_bundle.serving.modes.mode_options import SequenceClassificationOptions
from torchscript_bundle.serving.text.pairs import no_pairs
from torchscript_bundle.serving.text.tokenizer import Row

if TYPE_CHECKING:
    from torchscript_bundle.serving.api.protocols.call import Call

#: Logits `[labels]` -> scores `[labels]`, by the model's `problem_type`.
#: Source: transformers' TextClassificationPipeline.postprocess.
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "single_label_classification": lambda logits: torch.softmax(logits, dim=-1),
    "multi_label_classification": torch.sigmoid,
    "regression": lambda logits: logits,
}


@dataclass(frozen=True)
class NoSecondText(fields.Field):
    """Refuses any second text, for a model that takes one text at a time."""

    def check(self, value: object) -> str:
        raise no_pairs()

    def bounds(self) -> JsonSchema:
        return {"not": {}}


@dataclass(frozen=True)
class ClassificationParameters(CutParameters):
    """`top_k` None means the best label alone."""

    top_k: int | None
    raw_scores: bool


class SequenceClassification(ForwardMode):
    def __init__(self, bundle: Bundle) -> None:
        options = SequenceClassificationOptions.read(bundle.mode_options)
        self._activation = ACTIVATIONS[options.problem_type]
        self._labels = bundle.labels
        self._max_length = bundle.max_length
        second = "A second text that belongs to the first."
        pair = NoSecondText if bundle.pairs is False else fields.Text
        self.item_keys = fields.named(fields.TEXT, pair("text_pair", second), fields.UNREAD_TARGET)
        top_k = "How many labels, the best first; null for all. Without it the best one, bare."
        self.target_parameters = fields.named(
            Label("target", "The label whose score is explained.", labels=self._labels)
        )
        self.parameters = fields.named(
            fields.Whole("top_k", top_k, least=1, null=len(bundle.labels)),
            fields.Boolean("raw_scores", "Logits, without the model's activation.", default=False),
            *CUT_FIELDS,
        )
        ids = {label: at for at, label in enumerate(bundle.labels)}
        names = {str(at): label for at, label in enumerate(bundle.labels)}
        self.offers = {"labels": {"id2label": names, "label2id": ids}}
        entry = record({"label": words(bundle.labels), "score": NUMBER}, {"truncated": TRUE})
        self.answer_schema = either(entry, array(entry, minItems=1))

    def decode(self, item: object, parameters: Mapping[str, object]) -> Query:
        wanted = ClassificationParameters.read(self.parameters, parameters)
        read = fields.read_item(self.item_keys, item)
        text, text_pair = read["text"], read["text_pair"]
        sent = text if text_pair is None else (text, text_pair)
        return Query([sent], wanted, cut_side=wanted.truncation_direction)

    def check(self, query: Query, rows: Sequence[Sequence[Row]]) -> None:
        self._check_uncut(query.parameters, rows, self._max_length)

    def encode(self, query: Query, computed: Sequence[Sequence[Computed]]) -> Any:
        [[text]] = computed
        wanted: ClassificationParameters = query.parameters
        logits = text.outputs[0].float().cpu()
        scores = logits if wanted.raw_scores else self._activation(logits)
        ranked = torch.sort(scores, descending=True, stable=True).indices.tolist()
        entries = [
            {"label": self._labels[at], "score": scores[at].item(), **self._cut_note(text.row)}
            for at in ranked[: wanted.top_k or 1]
        ]
        return entries[0] if wanted.top_k is None else entries

    def targets(
        self, query: Query, computed: Sequence[Sequence[Computed]], wanted: Mapping[str, Any]
    ) -> list[Target]:
        """Return the logit of the requested or the best label."""
        [[text]] = computed
        [sent] = query.texts
        target: int | None = wanted["target"]
        index = int(text.outputs[0].argmax()) if target is None else target
        pair = (sent,) if isinstance(sent, str) else sent
        texts = dict(zip(("text", "text_pair"), pair, strict=False))
        return [Target(self._labels[index], text.row, texts, 0, (index,))]

    def for_inference_client(self, call: Call) -> Call:
        """Return all labels of each text, in a list even for one text."""
        return replace(call, parameters={"top_k": None, **call.parameters}, reply=list)

    def plain_text(self, answer: Any) -> str:
        if isinstance(answer, list):
            return "\n".join(self.plain_text(entry) for entry in answer)
        return str(answer["label"])
