"""Reranking: a query and passages -> the passages' indices and scores, best first.

Answers are those of CrossEncoder.rank (sentence_transformers) and of text-embeddings-inference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from torchscript_bundle.serving.api import fields
from torchscript_bundle.serving.api.json_schema import COUNT, NUMBER, STRING, TRUE, array, record
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.explanations.target import Target
from torchscript_bundle.serving.modes.base import (
    CUT_FIELDS,
    Computed,
    CutParameters,
    ForwardMode,
    Query,
)
from torchscript_bundle.serving.modes.mode_options import RerankingOptions
from torchscript_bundle.serving.text.tokenizer import Row

#: Logits `[passages]` -> scores `[passages]` in the same order.
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sigmoid": torch.sigmoid,
    "identity": lambda logits: logits,
}
#: Most passages of a request, whatever the config says.
MOST = 10_000
#: Most tokens of a truncated request. The tokenizer pairs every piece of a long query with every
#: piece of a long passage: two long texts would fill the worker's memory.
MOST_TOKENS = 2_000_000


@dataclass(frozen=True)
class RerankingParameters(CutParameters):
    top_n: int | None
    return_documents: bool
    raw_scores: bool


class Reranking(ForwardMode):
    item_keys = fields.named(
        fields.Text("query", "What is searched for.", required=True, example="battery life"),
        fields.Texts(
            "passages",
            "What is ranked.",
            required=True,
            aliases=("texts",),
            each="passage",
            most=MOST,
            example=["It lasts two days.", "The film was long."],
        ),
    )
    parameters = fields.named(
        fields.Whole(
            "top_n", "How many passages, the best first; without it all.", least=1, most=MOST
        ),
        fields.Boolean(
            "return_documents",
            "Repeat each passage as `text`.",
            default=False,
            aliases=("return_text",),
        ),
        fields.Boolean("raw_scores", "Logits, without the model's activation.", default=False),
        *CUT_FIELDS,
    )
    answer_schema = array(
        record({"index": COUNT, "score": NUMBER}, {"text": STRING, "truncated": TRUE}), minItems=1
    )
    target_parameters = fields.named(
        fields.Whole("target", "The passage that is explained, counted from 0.", least=0)
    )

    def __init__(self, bundle: Bundle) -> None:
        options = RerankingOptions.read(bundle.mode_options)
        self._activation = ACTIVATIONS[options.activation]
        self._max_length = bundle.max_length
        self.offers = {"ranking": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}}

    def decode(self, item: object, parameters: Mapping[str, object]) -> Query:
        read = fields.read_item(self.item_keys, item)
        query, passages = read["query"], read["passages"]
        self._check_size(query, passages)
        wanted = RerankingParameters.read(self.parameters, parameters)
        pairs = [(query, passage) for passage in passages]
        return Query(pairs, wanted, cut_side=wanted.truncation_direction)

    def check(self, query: Query, rows: Sequence[Sequence[Row]]) -> None:
        self._check_uncut(query.parameters, rows, self._max_length)

    def _check_size(self, query: str, passages: Sequence[str]) -> None:
        """Refuse texts that take much memory to truncate; a token has at least one byte."""

        def pieces(text: str) -> int:
            return math.ceil(2 * len(text.encode("utf-8")) / self._max_length)

        if pieces(query) * sum(map(pieces, passages)) * self._max_length > MOST_TOKENS:
            raise RequestError(
                413,
                "the query and the passages are too long together; send a shorter query, or fewer "
                "or shorter passages",
            )

    def encode(self, query: Query, computed: Sequence[Sequence[Computed]]) -> Any:
        wanted: RerankingParameters = query.parameters
        rows = [pair.row for [pair] in computed]
        logits = torch.cat([pair.outputs[0] for [pair] in computed]).float().cpu()
        scores = logits if wanted.raw_scores else self._activation(logits)
        # By logits: the scores of very good passages all round to 1.
        best = torch.sort(logits, descending=True, stable=True).indices[: wanted.top_n].tolist()
        return [
            {
                "index": index,
                "score": scores[index].item(),
                **({"text": query.texts[index][1]} if wanted.return_documents else {}),
                **self._cut_note(rows[index]),
            }
            for index in best
        ]

    def check_target(self, query: Query, wanted: Mapping[str, Any]) -> None:
        target, count = wanted["target"], len(query.texts)
        if target is not None and target >= count:
            raise RequestError(422, f"target must be below {count}, the number of passages")

    def targets(
        self, query: Query, computed: Sequence[Sequence[Computed]], wanted: Mapping[str, Any]
    ) -> list[Target]:
        """Return the logit of the requested or the best passage."""
        best = self.encode(query, computed)[0]["index"]
        index = best if wanted["target"] is None else wanted["target"]
        [pair] = computed[index]
        sent = dict(zip(("query", "passage"), query.texts[index], strict=True))
        return [Target(f"passage {index}", pair.row, sent, 0, (0,))]

    def plain_text(self, answer: Any) -> str:
        return " ".join(str(entry["index"]) for entry in answer)
