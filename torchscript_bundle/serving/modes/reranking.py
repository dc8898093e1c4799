"""Reranking: a query and passages -> the passages' indices and scores, best first.

Answers as sentence_transformers' CrossEncoder.rank and text-embeddings-inference's /rerank do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from torchscript_bundle.serving.api import fields
from torchscript_bundle.serving.api.json_schema import COUNT, NUMBER, STRING, TRUE, array, record
from torchscript_bundle.serving.artifact import REMAKE, Bundle
from torchscript_bundle.serving.errors import ArtifactError, RequestError
from torchscript_bundle.serving.explanations.target import Target
from torchscript_bundle.serving.modes.base import Computed, Query
from torchscript_bundle.serving.text.tokenizer import Truncation

#: logits `[passages]` -> scores `[passages]`; each keeps their order.
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sigmoid": torch.sigmoid,
    "identity": lambda logits: logits,
}
#: As many as a request may ever hold, whatever the config says.
MOST = 10_000
#: Most tokens that cutting may make of a request. The tokenizer pairs every piece of a long query
#: with every piece of a long passage, so that two long texts would fill the worker's memory.
MOST_TOKENS = 2_000_000


@dataclass(frozen=True)
class Wanted:
    """What a request asks for.

    Attributes:
        passages: as they were sent.
        top_n: how many of the best; None for all.
        return_documents: repeat each passage in the answer.
        raw_scores: logits instead of scores.
    """

    passages: list[str]
    top_n: int | None
    return_documents: bool
    raw_scores: bool


class Reranking:
    """See the module."""

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
        fields.Boolean("return_documents", "Repeat each passage as `text`.", default=False),
        fields.Boolean("raw_scores", "Logits, without the model's activation.", default=False),
    )
    answer_schema = array(
        record({"index": COUNT, "score": NUMBER}, {"text": STRING, "truncated": TRUE}), minItems=1
    )
    target_parameters = fields.named(
        fields.Whole("target", "The passage that is explained, counted from 0.", least=0)
    )
    truncation = Truncation()

    def __init__(self, bundle: Bundle) -> None:
        activation = bundle.mode_options.get("activation")
        if activation not in ACTIVATIONS:
            raise ArtifactError(
                f"bundle.json: mode_options.activation is {activation!r}; known are "
                f"{', '.join(ACTIVATIONS)}; {REMAKE}"
            )
        self._activation = ACTIVATIONS[activation]
        self._max_length = bundle.max_length

    def decode(self, item: object, parameters: Mapping[str, object]) -> Query:
        query, passages = fields.read_item(self.item_keys, item).values()
        self._check_size(query, passages)
        wanted = Wanted(passages, **fields.read_values(self.parameters, parameters))
        return Query([(query, passage) for passage in passages], wanted)

    def _check_size(self, query: str, passages: Sequence[str]) -> None:
        """Refuses what would take much memory to cut, by bytes: a token has at least one."""

        def pieces(text: str) -> int:
            return math.ceil(2 * len(text.encode("utf-8")) / self._max_length)

        if pieces(query) * sum(map(pieces, passages)) * self._max_length > MOST_TOKENS:
            raise RequestError(
                413,
                "the query and the passages are too long together; send a shorter query, or fewer "
                "or shorter passages",
            )

    def encode(self, query: Query, computed: Sequence[Sequence[Computed]]) -> Any:
        wanted: Wanted = query.options
        rows = [pair.row for [pair] in computed]
        logits = torch.cat([pair.outputs[0] for [pair] in computed]).float().cpu()
        scores = logits if wanted.raw_scores else self._activation(logits)
        # By logits, since the scores of very good passages all round to 1.
        best = torch.sort(logits, descending=True, stable=True).indices[: wanted.top_n].tolist()
        return [
            {
                "index": index,
                "score": scores[index].item(),
                **({"text": wanted.passages[index]} if wanted.return_documents else {}),
                **({"truncated": True} if rows[index].truncated else {}),
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
        """The logit of the passage asked for by its index, else of the best one."""
        best = self.encode(query, computed)[0]["index"]
        index = best if wanted["target"] is None else wanted["target"]
        [pair] = computed[index]
        sent = dict(zip(("query", "passage"), query.texts[index], strict=True))
        return [Target(f"passage {index}", pair.row, sent, 0, (0,))]

    def plain_text(self, answer: Any) -> str:
        return " ".join(str(entry["index"]) for entry in answer)
