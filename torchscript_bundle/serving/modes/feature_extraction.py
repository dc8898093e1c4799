"""Feature extraction: a text -> its vector, a list of numbers, as in Hugging Face's task.

A traced module pools and normalises the vector itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from torchscript_bundle.serving.api import fields
from torchscript_bundle.serving.api.json_schema import NUMBER, array
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.engine.padding import Outputs
from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.modes.base import (
    CUT_FIELDS,
    Computed,
    CutParameters,
    ForwardMode,
    Query,
)
from torchscript_bundle.serving.modes.mode_options import FeatureExtractionOptions
from torchscript_bundle.serving.text.tokenizer import Row

DIMENSIONS = (
    "The first so many numbers of each vector, normalised again; for a model whose vectors can be "
    "shortened (Matryoshka)."
)
#: The output of a model that is run eagerly: a vector for each token.
TOKENS = "last_hidden_state"
#: Tokens `[length, dim]` without padding -> `[dim]`.
POOLINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mean": lambda tokens: tokens.mean(dim=0),
    "cls": lambda tokens: tokens[0].clone(),
    "last": lambda tokens: tokens[-1].clone(),
}


@dataclass(frozen=True)
class EmbeddingParameters(CutParameters):
    normalize: bool
    prompt_name: str | None
    dimensions: int | None


class FeatureExtraction(ForwardMode):
    item_keys = fields.named(fields.TEXT)
    answer_schema = array(NUMBER, minItems=1)

    def __init__(self, bundle: Bundle) -> None:
        self._options = FeatureExtractionOptions.read(bundle.mode_options)
        self._max_length = bundle.max_length
        self._pools = bundle.outputs[0].name == TOKENS
        #: Numbers of a vector, known from the first pass, which warms the worker up.
        self._size: int | None = None
        normalize = "Give vectors the length 1; false is refused where the model does."
        prompts = [*self._options.prompts]
        self.parameters = fields.named(
            fields.Boolean("normalize", normalize, default=self._options.normalized),
            fields.Choice("prompt_name", "The prompt to put before the text.", choices=prompts),
            fields.Whole("dimensions", DIMENSIONS, least=1),
            *CUT_FIELDS,
        )
        self.offers = {"embeddings": {"pooling": self._options.pooling}}

    def decode(self, item: object, parameters: Mapping[str, object]) -> Query:
        text = fields.read_item(self.item_keys, item)["text"]
        wanted = EmbeddingParameters.read(self.parameters, parameters)
        if self._options.normalized and not wanted.normalize:
            raise RequestError(
                422, "this model normalises its vectors itself; leave normalize out, or send true"
            )
        size, dimensions = self._size, wanted.dimensions
        if size is not None and dimensions is not None and dimensions > size:
            raise RequestError(422, f"dimensions must be a whole number from 1 to {size}")
        prompt = self._options.default_prompt
        if wanted.prompt_name is not None:
            prompt = self._options.prompts[wanted.prompt_name]
        unpooled = self._options.unpooled.get(prompt, 0)
        side = wanted.truncation_direction
        return Query([prompt + text], wanted, cut_side=side, unpooled=unpooled)

    def check(self, query: Query, rows: Sequence[Sequence[Row]]) -> None:
        self._check_uncut(query.parameters, rows, self._max_length)

    def select_outputs(self, row: Row, outputs: Outputs) -> Outputs:
        """Pool the token vectors of a model that is run eagerly."""
        self._size = outputs[0].shape[-1]
        if not self._pools:
            return outputs
        vector = POOLINGS[self._options.pooling](outputs[0])
        if self._options.normalized:
            vector = torch.nn.functional.normalize(vector, dim=-1)
        return (vector,)

    def encode(self, query: Query, computed: Sequence[Sequence[Computed]]) -> Any:
        [[text]] = computed
        wanted: EmbeddingParameters = query.parameters
        vector = text.outputs[0].float()
        size = len(vector)
        vector = vector[: wanted.dimensions]
        if wanted.normalize and not (self._options.normalized and len(vector) == size):
            vector = torch.nn.functional.normalize(vector, dim=-1)
        return vector.tolist()

    def plain_text(self, answer: Any) -> str:
        return json.dumps(answer)
