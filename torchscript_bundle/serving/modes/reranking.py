"""Reranking: a query and passages -> the passages' indices and scores, best first.

Answers as sentence_transformers' CrossEncoder.rank and text-embeddings-inference's /rerank do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from torchscript_bundle.serving.artifact import REMAKE, Bundle
from torchscript_bundle.serving.errors import ArtifactError, RequestError
from torchscript_bundle.serving.explanations.target import Target
from torchscript_bundle.serving.modes.base import Computed, Query
from torchscript_bundle.serving.texts import (
    check_boolean,
    check_item,
    check_text,
    check_whole,
    type_name,
)
from torchscript_bundle.serving.tokenization import Truncation

#: logits `[passages]` -> scores `[passages]`; each keeps their order.
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sigmoid": torch.sigmoid,
    "identity": lambda logits: logits,
}
PASSAGES = ("passages", "texts")
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
        top_n: how many of the best.
        return_documents: repeat each passage in the answer.
        raw_scores: logits instead of scores.
    """

    passages: list[str]
    top_n: int
    return_documents: bool
    raw_scores: bool


class Reranking:
    """See the module."""

    item_keys = ("query", *PASSAGES)
    parameters = ("top_n", "return_documents", "raw_scores")
    target_parameters = ("target",)
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
        if not isinstance(item, dict) or len(item.keys() & set(PASSAGES)) != 1:
            raise RequestError(
                422, 'send {"query": "...", "passages": ["...", "..."]} ("texts" is the same)'
            )
        checked = check_item(item, self.item_keys, required=("query",))
        query = check_text(checked["query"], "query")
        passages = _check_passages(next(checked[key] for key in PASSAGES if key in checked))
        self._check_size(query, passages)
        wanted = Wanted(
            passages,
            top_n=check_whole(parameters.get("top_n", len(passages)), "top_n", 1, MOST),
            return_documents=check_boolean(
                parameters.get("return_documents", False), "return_documents"
            ),
            raw_scores=check_boolean(parameters.get("raw_scores", False), "raw_scores"),
        )
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

    def check_target(self, query: Query, parameters: Mapping[str, object]) -> None:
        if "target" in parameters:
            check_whole(parameters["target"], "target", 0, len(query.texts) - 1)

    def targets(
        self,
        query: Query,
        computed: Sequence[Sequence[Computed]],
        parameters: Mapping[str, object],
    ) -> list[Target]:
        """The logit of the passage asked for by its index, else of the best one."""
        best = self.encode(query, computed)[0]["index"]
        index = check_whole(parameters.get("target", best), "target", 0, len(query.texts) - 1)
        [pair] = computed[index]
        sent = dict(zip(("query", "passage"), query.texts[index], strict=True))
        return [Target(f"passage {index}", pair.row, sent, 0, (0,))]

    def plain_text(self, answer: Any) -> str:
        return " ".join(str(entry["index"]) for entry in answer)


def _check_passages(value: object) -> list[str]:
    """Texts, at least one.

    Raises:
        RequestError: 422; the message has the number of the passage that is wrong.
    """
    if not isinstance(value, list):
        raise RequestError(422, f"the passages are {type_name(value)}; send a list of strings")
    if not value:
        raise RequestError(422, "the list of passages is empty; send at least one")
    if len(value) > MOST:
        raise RequestError(413, f"{len(value)} passages; send at most {MOST} at a time")
    return [check_text(passage, f"passage {at}") for at, passage in enumerate(value)]
