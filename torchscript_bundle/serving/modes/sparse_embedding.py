"""Sparse embedding: a text -> the terms of its sparse vector, the heaviest first.

Answers are those of text-embeddings-inference's /embed_sparse, a list of `{"index", "value"}` for
each text, ordered as by SparseEncoder.decode (sentence_transformers). A traced module pools the
vector itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from torchscript_bundle.serving.api import fields
from torchscript_bundle.serving.api.json_schema import COUNT, NUMBER, STRING, array, record
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.engine.padding import Outputs
from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.modes.base import Computed, ForwardMode, Parameters, Query
from torchscript_bundle.serving.modes.mode_options import SparseEmbeddingOptions
from torchscript_bundle.serving.text.tokenizer import Row

#: The output of a model that is run eagerly: logits for each token.
LOGITS = "logits"
#: Most terms of a text in an answer. SPLADE models give some hundred; a masked language model that
#: was not trained for it gives half its vocabulary.
MOST_TERMS = 4096


@dataclass(frozen=True)
class SparseEmbeddingParameters(Parameters):
    top_k: int | None
    return_tokens: bool
    prompt_name: str | None
    truncate: bool


class SparseEmbedding(ForwardMode):
    item_keys = fields.named(fields.TEXT)
    answer_schema = array(record({"index": COUNT, "value": NUMBER}, {"token": STRING}))

    def __init__(self, bundle: Bundle) -> None:
        self._options = SparseEmbeddingOptions.read(bundle.mode_options)
        self._max_length = bundle.max_length
        self._pools = bundle.outputs[0].name == LOGITS
        self.offers = {"sparse_embeddings": {"pooling": "splade"}}
        self.parameters = fields.named(
            fields.Whole(
                "top_k",
                "How many terms, the heaviest; without it all.",
                least=1,
                most=MOST_TERMS,
                default=self._options.max_active_dims,
            ),
            fields.Boolean("return_tokens", "Name each term's `token`.", default=False),
            fields.Choice(
                "prompt_name",
                "The prompt to put before the text.",
                choices=[*self._options.prompts],
            ),
            fields.Boolean("truncate", "Cut a text that is too long, or refuse it.", default=True),
        )

    def decode(self, item: object, parameters: Mapping[str, object]) -> Query:
        text = fields.read_item(self.item_keys, item)["text"]
        wanted = SparseEmbeddingParameters.read(self.parameters, parameters)
        prompt = self._options.default_prompt
        if wanted.prompt_name is not None:
            prompt = self._options.prompts[wanted.prompt_name]
        return Query([prompt + text], wanted)

    def check(self, query: Query, rows: Sequence[Sequence[Row]]) -> None:
        [[row]] = rows
        wanted: SparseEmbeddingParameters = query.parameters
        if row.truncated and not wanted.truncate:
            raise RequestError(
                413,
                f"the text has more than {self._max_length} tokens (special tokens included) and "
                "truncate is false; send a shorter text",
            )

    def select_outputs(self, row: Row, outputs: Outputs) -> Outputs:
        """Pool the logits `[length, vocabulary]` of a model that is run eagerly.

        Source: sentence_transformers' SpladePooling._forward_flattened.
        """
        if not self._pools:
            return outputs
        weights = outputs[0].relu().log1p()
        if self._options.activation == "log1p_relu":
            weights = weights.log1p()
        return (weights.amax(dim=0) if self._options.pooling == "max" else weights.sum(dim=0),)

    def encode(self, query: Query, computed: Sequence[Sequence[Computed]]) -> Any:
        [[text]] = computed
        wanted: SparseEmbeddingParameters = query.parameters
        vector = text.outputs[0].float()
        terms = vector.nonzero()[:, 0]
        weights = vector[terms]
        if min(len(weights), wanted.top_k or len(weights)) > MOST_TERMS:
            raise RequestError(
                413,
                f"a text has {len(weights)} terms; send top_k, from 1 to {MOST_TERMS}, to get the "
                "heaviest",
            )
        heaviest = torch.sort(weights, descending=True, stable=True).indices[: wanted.top_k]
        pairs = zip(terms[heaviest].tolist(), weights[heaviest].tolist(), strict=True)
        entries = [{"index": index, "value": value} for index, value in pairs]
        return [self._with_token(each) for each in entries] if wanted.return_tokens else entries

    def _with_token(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Name the token of a term; a model may have more terms than its tokenizer has tokens."""
        token = self._tokenizer.id_to_token(entry["index"])
        return entry if token is None else {**entry, "token": token}

    def plain_text(self, answer: Any) -> str:
        return " ".join(f"{entry['index']}:{entry['value']}" for entry in answer)
