"""Feature extraction: a text -> a vector, pooled and normalised by the module if it is traced.

Answers as the Hugging Face feature-extraction task does for sentence embeddings: a list of numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from torchscript_bundle.serving.api import fields
from torchscript_bundle.serving.api.json_schema import NUMBER, array
from torchscript_bundle.serving.artifact import REMAKE, Bundle
from torchscript_bundle.serving.engine.padding import Outputs
from torchscript_bundle.serving.errors import ArtifactError, RequestError
from torchscript_bundle.serving.modes.base import Computed, Query
from torchscript_bundle.serving.text.tokenizer import Row, Truncation

#: What the model itself returns: a vector for each token.
TOKENS = "last_hidden_state"
#: `[length, dim]`, without padding -> `[dim]`.
POOLINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mean": lambda tokens: tokens.mean(dim=0),
    "cls": lambda tokens: tokens[0].clone(),
    "last": lambda tokens: tokens[-1].clone(),
}


@dataclass(frozen=True)
class Wanted:
    """How a vector is to be made.

    Attributes:
        normalize: give it the length 1.
        truncate: take the beginning of a text that is too long, rather than refuse it.
    """

    normalize: bool
    truncate: bool


class FeatureExtraction:
    """See the module."""

    item_keys = fields.named(fields.TEXT)
    answer_schema = array(NUMBER, minItems=1)
    truncation = Truncation()

    def __init__(self, bundle: Bundle) -> None:
        forms = {"normalized": bool, "prompts": dict, "default_prompt": str}
        for name, form in forms.items():
            if not isinstance(bundle.mode_options.get(name), form):
                raise ArtifactError(f"bundle.json: mode_options.{name} is missing; {REMAKE}")
        self._normalized: bool = bundle.mode_options["normalized"]
        self._prompts: dict[str, str] = bundle.mode_options["prompts"]
        self._default_prompt: str = bundle.mode_options["default_prompt"]
        self._max_length = bundle.max_length
        self._pool = None
        if bundle.outputs[0].name == TOKENS:
            pooling = bundle.mode_options.get("pooling")
            if pooling not in POOLINGS:
                raise ArtifactError(f"bundle.json: mode_options.pooling is {pooling!r}; {REMAKE}")
            self._pool = POOLINGS[pooling]
        normalize = "Give vectors the length 1; false is refused where the model does."
        self.parameters = fields.named(
            fields.Boolean("normalize", normalize, default=self._normalized),
            fields.Choice(
                "prompt_name", "The prompt to put before the text.", choices=[*self._prompts]
            ),
            fields.Boolean("truncate", "Cut a text that is too long, or refuse it.", default=True),
        )

    def decode(self, item: object, parameters: Mapping[str, object]) -> Query:
        text = fields.read_item(self.item_keys, item)["text"]
        normalize, name, truncate = fields.read_values(self.parameters, parameters).values()
        if self._normalized and not normalize:
            raise RequestError(
                422, "this model normalises its vectors itself; leave normalize out, or send true"
            )
        prompt = self._default_prompt if name is None else self._prompts[name]
        return Query([prompt + text], Wanted(normalize, truncate))

    def check(self, query: Query, rows: Sequence[Sequence[Row]]) -> None:
        [[row]] = rows
        wanted: Wanted = query.options
        if row.truncated and not wanted.truncate:
            raise RequestError(
                413,
                f"the text has more than {self._max_length} tokens (special tokens included) and "
                "truncate is false; send a shorter text",
            )

    def narrow(self, row: Row, outputs: Outputs) -> Outputs:
        """The text's vector, where the module gives one for each token."""
        if self._pool is None:
            return outputs
        vector = self._pool(outputs[0])
        return (torch.nn.functional.normalize(vector, dim=-1) if self._normalized else vector,)

    def encode(self, query: Query, computed: Sequence[Sequence[Computed]]) -> Any:
        [[text]] = computed
        wanted: Wanted = query.options
        vector = text.outputs[0].float()
        if wanted.normalize and not self._normalized:
            vector = torch.nn.functional.normalize(vector, dim=-1)
        return vector.tolist()

    def plain_text(self, answer: Any) -> str:
        return json.dumps(answer)
