"""Fill mask: a text with masks -> the tokens that fit best in their places.

Answers are those of Hugging Face's fill-mask task: a list of `{"score", "token", "token_str",
"sequence"}`; for a text with several masks, a list of such lists. Source: FillMaskPipeline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from torchscript_bundle.serving.api import fields
from torchscript_bundle.serving.api.json_schema import (
    COUNT,
    NUMBER,
    STRING,
    TRUE,
    array,
    either,
    record,
)
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.engine.padding import Outputs
from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.explanations.target import Target
from torchscript_bundle.serving.modes.base import Computed, ForwardMode, Parameters, Query
from torchscript_bundle.serving.modes.mode_options import FillMaskOptions
from torchscript_bundle.serving.text.detokenizer import clean_up
from torchscript_bundle.serving.text.tokenizer import Row

MAX_TOP_K = 100
MAX_TARGETS = 100
#: Characters; each target is tokenized anew for each text.
LONGEST_TARGET = 500
#: Each repeats the whole text in the answer.
MAX_PROPOSALS = 100

PROPOSALS = array(
    record(
        {"score": NUMBER, "token": COUNT, "token_str": STRING, "sequence": STRING},
        {"truncated": TRUE},
    ),
    minItems=1,
)


@dataclass(frozen=True)
class FillMaskParameters(Parameters):
    top_k: int
    targets: list[str] | None


@dataclass(frozen=True)
class Candidates:
    """How many tokens to propose for each mask, and from which ids; None for all."""

    top_k: int
    ids: list[int] | None


class FillMask(ForwardMode):
    parameters = fields.named(
        fields.Whole("top_k", "How many tokens for each mask.", least=1, most=MAX_TOP_K, default=5),
        fields.Texts(
            "targets",
            "The only tokens to choose from.",
            each="target",
            most=MAX_TARGETS,
            longest=LONGEST_TARGET,
            too_many=422,
        ),
    )
    answer_schema = either(PROPOSALS, array(PROPOSALS, minItems=2))
    target_parameters = fields.named(
        fields.Text("target", "The token that is explained, for each mask.", most=LONGEST_TARGET)
    )

    def __init__(self, bundle: Bundle) -> None:
        self._options = FillMaskOptions.read(bundle.mode_options)
        self._mask, self._mask_id = self._options.mask_token, self._options.mask_token_id
        example = f"It {self._mask} as described."
        self.item_keys = fields.named(
            replace(fields.TEXT, description="A text with a mask.", example=example)
        )
        self._padding_id = bundle.padding.token_id
        self._unknown_id = bundle.special_ids.get("unk")
        self._max_length = bundle.max_length
        self._all_tokens = bundle.outputs[0].per_token
        self.usual_text = f"a a a {self._mask}"

    def decode(self, item: object, parameters: Mapping[str, object]) -> Query:
        text = fields.read_item(self.item_keys, item)["text"]
        wanted = FillMaskParameters.read(self.parameters, parameters)
        if wanted.targets is None:
            return Query([text], Candidates(wanted.top_k, None))
        ids = {self._target_id(each, f"target {at}") for at, each in enumerate(wanted.targets)}
        return Query([text], Candidates(min(wanted.top_k, len(ids)), sorted(ids)))

    def _target_id(self, target: str, what: str) -> int:
        """Return a target's token: its own in the vocabulary, or the only one of its text.

        transformers takes the first of several tokens, and so the score of another word.
        """
        known = self._tokenizer.token_to_id(target)
        ids: list[int] = [] if known is None else [known]
        if known is None:
            ids = self._tokenizer.encode(target, add_special_tokens=False).ids
        if len(ids) != 1 or (known is None and ids[0] == self._unknown_id):
            raise RequestError(
                422,
                f"{what} is not one token of the model's vocabulary; send words that are, or "
                "leave targets out to get the best of all tokens",
            )
        return ids[0]

    def check(self, query: Query, rows: Sequence[Sequence[Row]]) -> None:
        [[row]] = rows
        cut = row.encoding.overflowing if row.encoding is not None else []
        if any(self._mask_id in part.ids for part in cut):
            raise RequestError(
                413,
                f"a mask is in what is cut from a text of more than {self._max_length} tokens "
                "(special tokens included); send a shorter text",
            )
        masks = len(self._positions(row))
        if not masks:
            raise RequestError(
                422, f"the text has no mask; write {self._mask} in place of the token to be filled"
            )
        if masks * query.parameters.top_k > MAX_PROPOSALS:
            raise RequestError(
                413,
                f"{masks} masks with top_k {query.parameters.top_k} ask for more than "
                f"{MAX_PROPOSALS} texts; send fewer masks or a lower top_k",
            )

    def _positions(self, row: Row) -> list[int]:
        return [at for at, token_id in enumerate(row.input_ids) if token_id == self._mask_id]

    def select_outputs(self, row: Row, outputs: Outputs) -> Outputs:
        """Keep the logits of masks, `[masks, vocabulary]`; a traced module computes no others."""
        return (outputs[0][self._positions(row)],) if self._all_tokens else outputs

    def encode(self, query: Query, computed: Sequence[Sequence[Computed]]) -> Any:
        [[text]] = computed
        wanted: Candidates = query.parameters
        scores = torch.softmax(text.outputs[0].float(), dim=-1)
        if wanted.ids is not None:
            scores = scores[:, wanted.ids]
        best = torch.topk(scores, min(wanted.top_k, scores.shape[-1]))
        tokens = best.indices.tolist()
        if wanted.ids is not None:
            tokens = [[wanted.ids[index] for index in each] for each in tokens]
        masks = zip(self._positions(text.row), tokens, best.values.tolist(), strict=True)
        proposals = [self._proposals(text.row, *mask) for mask in masks]
        return proposals[0] if len(proposals) == 1 else proposals

    def _proposals(
        self, row: Row, position: int, tokens: list[int], scores: list[float]
    ) -> list[dict[str, Any]]:
        """Return the entries for one mask, best first. Source: postprocess."""
        # Skipping special tokens would drop the other masks too.
        single = row.input_ids.count(self._mask_id) == 1
        filled = [
            [*row.input_ids[:position], token, *row.input_ids[position + 1 :]] for token in tokens
        ]
        kept = [[each for each in ids if each != self._padding_id] for ids in filled]
        return [
            {
                "score": score,
                "token": token,
                "token_str": self._spell([token], skip_special_tokens=False),
                "sequence": self._spell(ids, skip_special_tokens=single),
                **self._cut_note(row),
            }
            for token, score, ids in zip(tokens, scores, kept, strict=True)
        ]

    def _spell(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        """Source: TokenizersBackend._decode."""
        text = str(self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens))
        return clean_up(text) if self._options.clean_up_spaces else text

    def check_target(self, query: Query, wanted: Mapping[str, Any]) -> None:
        if wanted["target"] is not None:
            self._target_id(wanted["target"], "target")

    def targets(
        self, query: Query, computed: Sequence[Sequence[Computed]], wanted: Mapping[str, Any]
    ) -> list[Target]:
        """Return, for each mask, the logit of the requested or the best token."""
        [[text]] = computed
        [sent] = query.texts
        assert isinstance(sent, str)
        found = []
        for scores, position in zip(text.outputs[0], self._positions(text.row), strict=True):
            if wanted["target"] is None:
                token = int(scores.argmax())
            else:
                token = self._target_id(wanted["target"], "target")
            name = self._spell([token], skip_special_tokens=False)
            place = (position, token)
            found.append(Target(name, text.row, {"text": sent}, 0, place, per_token=True))
        return found

    def plain_text(self, answer: Any) -> str:
        """Return the best token of each mask, one a line."""
        if isinstance(answer[0], list):
            return "\n".join(self.plain_text(each) for each in answer)
        return str(answer[0]["token_str"])
