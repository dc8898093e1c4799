"""Sequence classification: texts, or pairs of them, -> labels and scores.

Answers as the Hugging Face text-classification task does: `{"label", "score"}`, or the best labels
in a list where `top_k` is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from torchscript_bundle.serving.artifact import REMAKE, Bundle
from torchscript_bundle.serving.errors import ArtifactError, RequestError
from torchscript_bundle.serving.explanations.target import Target
from torchscript_bundle.serving.modes.base import Computed, Query
from torchscript_bundle.serving.texts import check_item, check_label, check_text
from torchscript_bundle.serving.tokenization import Truncation

#: logits `[labels]` -> scores `[labels]`, by the model's `problem_type`.
#: Source: transformers' TextClassificationPipeline.postprocess.
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "single_label_classification": lambda logits: torch.softmax(logits, dim=-1),
    "multi_label_classification": torch.sigmoid,
    "regression": lambda logits: logits,
}


class SequenceClassification:
    """See the module."""

    item_keys = ("text", "text_pair")
    parameters = ("top_k",)
    target_parameters = ("target",)
    truncation = Truncation()

    def __init__(self, bundle: Bundle) -> None:
        problem_type = bundle.mode_options.get("problem_type")
        if problem_type not in ACTIVATIONS:
            raise ArtifactError(
                f"bundle.json: mode_options.problem_type is {problem_type!r}; "
                f"known are {', '.join(ACTIVATIONS)}; {REMAKE}"
            )
        self._activation = ACTIVATIONS[problem_type]
        self._labels = bundle.labels

    def decode(self, item: object, parameters: Mapping[str, object]) -> Query:
        top_k = self._check_top_k(parameters["top_k"]) if "top_k" in parameters else None
        if not isinstance(item, dict):
            return Query([check_text(item)], top_k)
        checked = check_item(item, self.item_keys, required=("text",))
        text = check_text(checked["text"])
        if "text_pair" not in checked:
            return Query([text], top_k)
        return Query([(text, check_text(checked["text_pair"], "text_pair"))], top_k)

    def _check_top_k(self, value: object) -> int:
        if value is None:
            return len(self._labels)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise RequestError(
                422, "top_k must be a whole number of at least 1, or null for all labels"
            )
        return min(value, len(self._labels))

    def encode(self, query: Query, computed: Sequence[Sequence[Computed]]) -> Any:
        [[text]] = computed
        top_k: int | None = query.options
        scores = self._activation(text.outputs[0].float().cpu())
        best = torch.sort(scores, descending=True, stable=True).indices[: top_k or 1].tolist()
        truncated = {"truncated": True} if text.row.truncated else {}
        entries = [
            {"label": self._labels[index], "score": scores[index].item(), **truncated}
            for index in best
        ]
        return entries[0] if top_k is None else entries

    def check_target(self, query: Query, parameters: Mapping[str, object]) -> None:
        if "target" in parameters:
            check_label(parameters["target"], self._labels)

    def targets(
        self,
        query: Query,
        computed: Sequence[Sequence[Computed]],
        parameters: Mapping[str, object],
    ) -> list[Target]:
        """The logit of the label that is asked for, else of the best one."""
        [[text]] = computed
        [sent] = query.texts
        best = self._labels[int(text.outputs[0].argmax())]
        label = check_label(parameters.get("target", best), self._labels)
        pair = (sent,) if isinstance(sent, str) else sent
        texts = dict(zip(("text", "text_pair"), pair, strict=False))
        return [Target(label, text.row, texts, 0, (self._labels.index(label),))]

    def plain_text(self, answer: Any) -> str:
        if isinstance(answer, list):
            return "\n".join(self.plain_text(entry) for entry in answer)
        return str(answer["label"])
