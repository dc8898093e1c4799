"""Sequence classification: texts -> labels and scores.

Answers as the Hugging Face text-classification task does: `{"label", "score"}` for a text, a list
for a list, every text's best labels in a list where `top_k` is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from torchscript_bundle.serving.artifact import REMAKE, Bundle
from torchscript_bundle.serving.errors import ArtifactError, RequestError
from torchscript_bundle.serving.modes.base import ModeRequest
from torchscript_bundle.serving.texts import check_keys, take_texts
from torchscript_bundle.serving.tokenization import Row

TEXT_KEYS = ("text", "inputs", "data")

#: logits `[labels]` -> scores `[labels]`, by the model's `problem_type`.
#: Source: transformers' TextClassificationPipeline.postprocess.
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "single_label_classification": lambda logits: torch.softmax(logits, dim=-1),
    "multi_label_classification": torch.sigmoid,
    "regression": lambda logits: logits,
}


@dataclass(frozen=True)
class Options:
    """How the answer is formed.

    Attributes:
        single: whether the client sent one text rather than a list.
        top_k: labels wanted for each text; None for the best one alone, without a list.
    """

    single: bool
    top_k: int | None


class SequenceClassification:
    """See the module."""

    def __init__(self, bundle: Bundle, max_texts: int) -> None:
        problem_type = bundle.mode_options.get("problem_type")
        if problem_type not in ACTIVATIONS:
            raise ArtifactError(
                f"bundle.json: mode_options.problem_type is {problem_type!r}; "
                f"known are {', '.join(ACTIVATIONS)}; {REMAKE}"
            )
        self._activation = ACTIVATIONS[problem_type]
        self._labels = bundle.labels
        self._max_texts = max_texts

    def decode(self, payload: object) -> ModeRequest:
        top_k = None
        if isinstance(payload, dict):
            payload, top_k = self._decode_object(payload)
        texts = take_texts(payload, self._max_texts)
        return ModeRequest(texts, Options(single=isinstance(payload, str), top_k=top_k))

    def _decode_object(self, payload: dict[str, object]) -> tuple[object, int | None]:
        check_keys(payload, (*TEXT_KEYS, "top_k", "parameters"))
        given = [key for key in TEXT_KEYS if key in payload]
        if len(given) != 1:
            raise RequestError(422, 'send the text under one of the keys "text", "inputs", "data"')
        parameters = payload.get("parameters", {})
        if not isinstance(parameters, dict):
            raise RequestError(422, 'parameters must be an object, e.g. {"top_k": 2}')
        check_keys(parameters, ("top_k",), where="parameters.")
        if "top_k" in payload and "top_k" in parameters:
            raise RequestError(422, "top_k is given twice; send it alone or under parameters")
        settings = {**payload, **parameters}
        if "top_k" not in settings:
            return payload[given[0]], None
        return payload[given[0]], self._check_top_k(settings["top_k"])

    def _check_top_k(self, value: object) -> int:
        if value is None:
            return len(self._labels)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise RequestError(
                422, "top_k must be a whole number of at least 1, or null for all labels"
            )
        return min(value, len(self._labels))

    def encode(
        self, request: ModeRequest, rows: Sequence[Row], outputs: Sequence[torch.Tensor]
    ) -> Any:
        options: Options = request.options
        answers = [
            self._encode_text(row, logits, options.top_k)
            for row, logits in zip(rows, outputs, strict=True)
        ]
        return answers[0] if options.single else answers

    def _encode_text(self, row: Row, logits: torch.Tensor, top_k: int | None) -> Any:
        scores = self._activation(logits.float())
        best = torch.sort(scores, descending=True, stable=True).indices[: top_k or 1].tolist()
        truncated = {"truncated": True} if row.truncated else {}
        entries = [
            {"label": self._labels[index], "score": scores[index].item(), **truncated}
            for index in best
        ]
        return entries[0] if top_k is None else entries

    def plain_text(self, answer: Any) -> str:
        if isinstance(answer, list):
            return "\n".join(self.plain_text(entry) for entry in answer)
        return str(answer["label"])
