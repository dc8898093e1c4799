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

from torchscript_bundle.serving.artifact import REMAKE, Bundle
from torchscript_bundle.serving.errors import ArtifactError, RequestError
from torchscript_bundle.serving.explanations.target import Target
from torchscript_bundle.serving.modes.base import Computed, Query
from torchscript_bundle.serving.modes.room import check_leaves_room
from torchscript_bundle.serving.texts import check_boolean, check_item, check_label, check_text
from torchscript_bundle.serving.tokenization import Truncation

TEMPLATE = "This example is {}."
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


class ZeroShotClassification:
    """See the module."""

    item_keys = ("text",)
    parameters = ("candidate_labels", "multi_label", "hypothesis_template")
    target_parameters = ("target",)
    truncation = Truncation("only_first")

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
        if isinstance(item, dict):
            item = check_item(item, self.item_keys, required=self.item_keys)["text"]
        text = check_text(item)
        labels = check_labels(parameters.get("candidate_labels"))
        template = check_template(parameters.get("hypothesis_template", TEMPLATE))
        multi_label = check_boolean(parameters.get("multi_label", False), "multi_label")
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

    def check_target(self, query: Query, parameters: Mapping[str, object]) -> None:
        if "target" in parameters:
            check_label(parameters["target"], query.options.labels)

    def targets(
        self,
        query: Query,
        computed: Sequence[Sequence[Computed]],
        parameters: Mapping[str, object],
    ) -> list[Target]:
        """The logit that the text entails the label asked for, else the best one."""
        ask: Ask = query.options
        label = parameters.get("target", self.encode(query, computed)["labels"][0])
        index = ask.labels.index(check_label(label, ask.labels))
        [text] = computed[index]
        sent = dict(zip(("text", "hypothesis"), query.texts[index], strict=True))
        return [Target(ask.labels[index], text.row, sent, 0, (self._entailment,))]

    def plain_text(self, answer: Any) -> str:
        return str(answer["labels"][0])


def check_labels(value: object) -> list[str]:
    """The labels of a request: a list, or a string with commas between them.

    Raises:
        RequestError: 422 for none, another type, an empty label, or one of too many characters; 413
            for too many.
    """
    if isinstance(value, str):
        value = [part for part in map(str.strip, value.split(",")) if part]
    if not isinstance(value, list) or not value:
        raise RequestError(
            422,
            "candidate_labels must be a list of labels, or a string with commas between them; send "
            '{"inputs": "...", "parameters": {"candidate_labels": ["...", "..."]}}',
        )
    if len(value) > MOST_LABELS:
        raise RequestError(413, f"{len(value)} candidate_labels; send at most {MOST_LABELS}")
    labels = [check_text(label, "one of candidate_labels") for label in value]
    if max(map(len, labels)) > LONGEST_LABEL:
        raise RequestError(
            422, f"one of candidate_labels is over {LONGEST_LABEL} characters; send a shorter one"
        )
    return labels


def check_template(value: object) -> str:
    """A sentence with `{}` where the label goes.

    Other braces are refused: transformers, which reads the template as a format string, would give
    them a meaning that they do not have here.

    Raises:
        RequestError: 422.
    """
    template = check_text(value, "hypothesis_template")
    if template.count("{}") != 1 or template.count("{") + template.count("}") != 2:
        raise RequestError(
            422, 'hypothesis_template must hold {} once and no other braces, as in "It is {}."'
        )
    if len(template) > LONGEST_TEMPLATE:
        raise RequestError(
            422, f"hypothesis_template is over {LONGEST_TEMPLATE} characters; send a shorter one"
        )
    return template
