"""Zero-shot classification: a text and labels of the request's choice -> a score for each label.

Answers are those of Hugging Face's zero-shot-classification task: `{"sequence", "labels",
"scores"}`, best label first. Source: transformers' ZeroShotClassificationPipeline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from torchscript_bundle.serving.api import fields
from torchscript_bundle.serving.api.json_schema import (
    NUMBER,
    STRING,
    TRUE,
    JsonSchema,
    array,
    record,
)
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.explanations.target import Target
from torchscript_bundle.serving.modes.base import Computed, ForwardMode, Parameters, Query
from torchscript_bundle.serving.modes.mode_options import ZeroShotOptions
from torchscript_bundle.serving.text.tokenizer import Truncation

if TYPE_CHECKING:
    from torchscript_bundle.serving.api.protocols.call import Call

MOST_LABELS = 1000
LONGEST_LABEL = 500
LONGEST_TEMPLATE = 1000
#: Most characters of a text times its labels: the whole text is tokenized with each label.
MOST_CHARACTERS = 250_000


@dataclass(frozen=True)
class ZeroShotParameters(Parameters):
    candidate_labels: list[str]
    multi_label: bool
    hypothesis_template: str


@dataclass(frozen=True)
class Labels(fields.Texts):
    """A list of texts, or one text that separates them by commas."""

    def check(self, value: object) -> list[str]:
        if isinstance(value, str):
            value = [part for part in map(str.strip, value.split(",")) if part]
        return super().check(value)

    def bounds(self) -> JsonSchema:
        return {"anyOf": [super().bounds(), {"type": "string", "pattern": f"[^,{fields.SPACE}]"}]}


class ZeroShotClassification(ForwardMode):
    item_keys = fields.named(fields.TEXT)
    parameters = fields.named(
        Labels(
            "candidate_labels",
            "The labels to choose from, or one string with commas between them.",
            required=True,
            each="label",
            most=MOST_LABELS,
            longest=LONGEST_LABEL,
            otherwise=", or one string with commas between them",
            example=["delivery", "billing"],
        ),
        fields.Boolean("multi_label", "Score each label by itself.", default=False),
        # transformers takes a format string, where other braces would have a meaning.
        fields.Text(
            "hypothesis_template",
            "A sentence with {} where the label goes.",
            most=LONGEST_TEMPLATE,
            default="This example is {}.",
            pattern=r"^[^{}]*\{\}[^{}]*$",
            must='hold {} once and no other braces, as in "It is {}."',
        ),
    )
    answer_schema = record(
        {"sequence": STRING, "labels": array(STRING, minItems=1), "scores": array(NUMBER)},
        {"truncated": TRUE},
    )
    target_parameters = fields.named(
        fields.Text("target", "The label of candidate_labels that is explained.")
    )
    truncation = Truncation("only_first")

    def __init__(self, bundle: Bundle) -> None:
        self._options = ZeroShotOptions.read(bundle.mode_options)
        self._half = bundle.max_length // 2

    def decode(self, item: object, parameters: Mapping[str, object]) -> Query:
        text = fields.read_item(self.item_keys, item)["text"]
        wanted = ZeroShotParameters.read(self.parameters, parameters)
        labels = wanted.candidate_labels
        if len(text) * len(labels) > MOST_CHARACTERS:
            raise RequestError(
                413,
                f"the text has {len(text)} characters for {len(labels)} labels; send at most "
                f"{MOST_CHARACTERS // len(labels)} characters, or fewer labels",
            )
        before, after = wanted.hypothesis_template.split("{}")
        hypotheses = [before + label + after for label in labels]
        for hypothesis in hypotheses:
            self._check_leaves_room(hypothesis, self._half, "a label in its template")
        return Query([(text, hypothesis) for hypothesis in hypotheses], wanted)

    def encode(self, query: Query, computed: Sequence[Sequence[Computed]]) -> Any:
        wanted: ZeroShotParameters = query.parameters
        rows = [row for [row] in computed]
        logits = torch.stack([row.outputs[0].float().cpu() for row in rows])
        ranked = torch.sort(self._scores(logits, wanted), descending=True, stable=True)
        return {
            "sequence": query.texts[0][0],
            "labels": [wanted.candidate_labels[index] for index in ranked.indices.tolist()],
            "scores": ranked.values.tolist(),
            **self._cut_note(*(row.row for row in rows)),
        }

    def _scores(self, logits: torch.Tensor, wanted: ZeroShotParameters) -> torch.Tensor:
        """Logits `[labels, classes of the model]` -> scores `[labels]`.

        Labels that exclude each other share one softmax over their entailment; otherwise each label
        has its own, of its entailment against its contradiction.
        """
        entailment, contradiction = self._options.entailment, self._options.contradiction
        if wanted.multi_label or len(logits) == 1:
            return torch.softmax(logits[:, [contradiction, entailment]], dim=-1)[:, 1]
        return torch.softmax(logits[:, entailment], dim=0)

    def check_target(self, query: Query, wanted: Mapping[str, Any]) -> None:
        target, labels = wanted["target"], query.parameters.candidate_labels
        if target is not None and target not in labels:
            raise RequestError(422, f"target must be one of {fields.listed(labels)}")

    def targets(
        self, query: Query, computed: Sequence[Sequence[Computed]], wanted: Mapping[str, Any]
    ) -> list[Target]:
        """Return the entailment logit of the requested or the best label."""
        labels: list[str] = query.parameters.candidate_labels
        index = labels.index(wanted["target"] or self.encode(query, computed)["labels"][0])
        [text] = computed[index]
        sent = dict(zip(("text", "hypothesis"), query.texts[index], strict=True))
        return [Target(labels[index], text.row, sent, 0, (self._options.entailment,))]

    def for_inference_client(self, call: Call) -> Call:
        """List labels with their scores for each text; for one text, return its list alone."""

        def reply(answers: list[Any]) -> Any:
            replies = [_label_entries(answer) for answer in answers]
            return replies if call.listed else replies[0]

        return replace(call, reply=reply)

    def plain_text(self, answer: Any) -> str:
        return str(answer["labels"][0])


def _label_entries(answer: dict[str, Any]) -> list[dict[str, Any]]:
    cut = {"truncated": True} if "truncated" in answer else {}
    scored = zip(answer["labels"], answer["scores"], strict=True)
    return [{"label": label, "score": score, **cut} for label, score in scored]
