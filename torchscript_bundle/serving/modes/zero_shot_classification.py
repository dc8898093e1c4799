"""Zero-shot classification: a text and labels that the request chooses -> a score for each label.

Answers as the Hugging Face zero-shot-classification task does: `{"sequence", "labels", "scores"}`,
the best label first. Source: transformers' ZeroShotClassificationPipeline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer

from torchscript_bundle.serving.api import fields
from torchscript_bundle.serving.api.json_schema import (
    NUMBER,
    STRING,
    TRUE,
    JsonSchema,
    array,
    record,
)
from torchscript_bundle.serving.artifact import REMAKE, Bundle
from torchscript_bundle.serving.errors import ArtifactError, RequestError
from torchscript_bundle.serving.explanations.target import Target
from torchscript_bundle.serving.modes.base import Computed, Query
from torchscript_bundle.serving.modes.checks import check_leaves_room
from torchscript_bundle.serving.text.tokenizer import Truncation

MOST_LABELS = 1000
LONGEST_LABEL = 500
LONGEST_TEMPLATE = 1000
#: Most characters of a text times its labels: the text is tokenized whole with each of them.
MOST_CHARACTERS = 250_000


@dataclass(frozen=True)
class Ask:
    """What a request asks of one text."""

    text: str
    labels: Sequence[str]
    multi_label: bool


@dataclass(frozen=True)
class Labels(fields.Texts):
    """Texts, or one with commas between them."""

    def check(self, value: object) -> list[str]:
        if isinstance(value, str):
            value = [part for part in map(str.strip, value.split(",")) if part]
        return super().check(value)

    def bounds(self) -> JsonSchema:
        return {"anyOf": [super().bounds(), {"type": "string", "pattern": f"[^,{fields.SPACE}]"}]}


class ZeroShotClassification:
    """See the module."""

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
        # Other braces would have a meaning in transformers, which reads a format string.
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
    inference_client_defaults: Mapping[str, object] = {}

    def __init__(self, bundle: Bundle) -> None:
        missing = {"entailment", "contradiction"} - bundle.mode_options.keys()
        if missing:
            raise ArtifactError(f"bundle.json: mode_options lacks {sorted(missing)}; {REMAKE}")
        self._entailment: int = bundle.mode_options["entailment"]
        self._contradiction: int = bundle.mode_options["contradiction"]
        self._half = bundle.max_length // 2

    def set_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Takes the artifact's tokenizer, before the first request."""
        self._tokenizer = tokenizer

    def decode(self, item: object, parameters: Mapping[str, object]) -> Query:
        text = fields.read_item(self.item_keys, item)["text"]
        labels, multi_label, template = fields.read_values(self.parameters, parameters).values()
        if len(text) * len(labels) > MOST_CHARACTERS:
            raise RequestError(
                413,
                f"the text has {len(text)} characters for {len(labels)} labels; send at most "
                f"{MOST_CHARACTERS // len(labels)} characters, or fewer labels",
            )
        before, after = template.split("{}")
        hypotheses = [before + label + after for label in labels]
        for hypothesis in hypotheses:
            check_leaves_room(self._tokenizer, hypothesis, self._half, "a label in its template")
        pairs = [(text, hypothesis) for hypothesis in hypotheses]
        return Query(pairs, Ask(text, labels, multi_label))

    def encode(self, query: Query, computed: Sequence[Sequence[Computed]]) -> Any:
        ask: Ask = query.options
        rows = [row for [row] in computed]
        scores = self._scores(torch.stack([row.outputs[0].float().cpu() for row in rows]), ask)
        ranked = torch.sort(scores, descending=True, stable=True)
        truncated = {"truncated": True} if any(row.row.truncated for row in rows) else {}
        return {
            "sequence": ask.text,
            "labels": [ask.labels[index] for index in ranked.indices.tolist()],
            "scores": ranked.values.tolist(),
            **truncated,
        }

    def _scores(self, logits: torch.Tensor, ask: Ask) -> torch.Tensor:
        """Logits `[labels, classes of the model]` -> scores `[labels]`.

        Labels that exclude each other share one softmax; else each is weighed by itself, against
        its contradiction.
        """
        if ask.multi_label or len(ask.labels) == 1:
            either = logits[:, [self._contradiction, self._entailment]]
            return torch.softmax(either, dim=-1)[:, 1]
        return torch.softmax(logits[:, self._entailment], dim=0)

    def check_target(self, query: Query, wanted: Mapping[str, Any]) -> None:
        target, labels = wanted["target"], query.options.labels
        if target is not None and target not in labels:
            raise RequestError(422, f"target must be one of {fields.listed(labels)}")

    def targets(
        self, query: Query, computed: Sequence[Sequence[Computed]], wanted: Mapping[str, Any]
    ) -> list[Target]:
        """The logit that the text entails the label asked for, else the best one."""
        ask: Ask = query.options
        index = ask.labels.index(wanted["target"] or self.encode(query, computed)["labels"][0])
        [text] = computed[index]
        sent = dict(zip(("text", "hypothesis"), query.texts[index], strict=True))
        return [Target(ask.labels[index], text.row, sent, 0, (self._entailment,))]

    def inference_client_reply(self, answers: Sequence[Any], listed: bool) -> Any:
        """A list of labels with their scores for each text; one text gets it bare."""
        replies = [_label_entries(answer) for answer in answers]
        return replies if listed else replies[0]

    def plain_text(self, answer: Any) -> str:
        return str(answer["labels"][0])


def _label_entries(answer: dict[str, Any]) -> list[dict[str, Any]]:
    truncated = {"truncated": True} if "truncated" in answer else {}
    return [
        {"label": label, "score": score, **truncated}
        for label, score in zip(answer["labels"], answer["scores"], strict=True)
    ]
