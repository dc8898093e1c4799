"""Fill mask: texts with a mask -> the tokens that fit best in its place.

Answers as the Hugging Face fill-mask task does: for a text with one mask a list of
`{"score", "token", "token_str", "sequence"}`, for a text with several a list of such lists.

Source: transformers' FillMaskPipeline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from tokenizers import Tokenizer

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
from torchscript_bundle.serving.artifact import REMAKE, Bundle
from torchscript_bundle.serving.engine.padding import Outputs
from torchscript_bundle.serving.errors import ArtifactError, RequestError
from torchscript_bundle.serving.explanations.target import Target
from torchscript_bundle.serving.modes.base import Computed, Query
from torchscript_bundle.serving.text.detokenizer import clean_up
from torchscript_bundle.serving.text.tokenizer import Row, Truncation

MAX_TOP_K = 100
MAX_TARGETS = 100
#: Each is tokenized anew for each text.
LONGEST_TARGET = 500
#: Each is a whole text of its own in the answer.
MAX_PROPOSALS = 100

PROPOSALS = array(
    record(
        {"score": NUMBER, "token": COUNT, "token_str": STRING, "sequence": STRING},
        {"truncated": TRUE},
    ),
    minItems=1,
)


@dataclass(frozen=True)
class Options:
    """How many proposals for each mask, and from which token ids (None: from all)."""

    top_k: int
    targets: list[int] | None


class FillMask:
    """See the module."""

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
    truncation = Truncation()

    def __init__(self, bundle: Bundle) -> None:
        missing = [
            name
            for name in ("mask_token", "mask_token_id", "clean_up_spaces")
            if name not in bundle.mode_options
        ]
        if missing:
            raise ArtifactError(f"bundle.json: mode_options lacks {', '.join(missing)}; {REMAKE}")
        self._mask: str = bundle.mode_options["mask_token"]
        example = f"It {self._mask} as described."
        self.item_keys = fields.named(
            replace(fields.TEXT, description="A text with a mask.", example=example)
        )
        self._mask_id: int = bundle.mode_options["mask_token_id"]
        self._clean_up: bool = bundle.mode_options["clean_up_spaces"]
        self._padding_id = bundle.padding.token_id
        self._unknown_id = bundle.special_ids.get("unk")
        self._max_length = bundle.max_length

    def set_tokenizer(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def decode(self, item: object, parameters: Mapping[str, object]) -> Query:
        text = fields.read_item(self.item_keys, item)["text"]
        top_k, targets = fields.read_values(self.parameters, parameters).values()
        if targets is not None:
            named = [self._target_id(each, f"target {at}") for at, each in enumerate(targets)]
            targets = sorted(set(named))
            top_k = min(top_k, len(targets))
        return Query([text], Options(top_k, targets))

    def _target_id(self, target: str, what: str) -> int:
        """The token of a target: the vocabulary's, or the only one that its text becomes.

        transformers takes the first of several tokens, so that the score would be another word's.
        """
        known = self._tokenizer.token_to_id(target)
        ids = [known] if known is not None else self._ids(target)
        if len(ids) != 1 or (known is None and ids[0] == self._unknown_id):
            raise RequestError(
                422,
                f"{what} is not one token of the model's vocabulary; send words that are, or "
                "leave targets out to get the best of all tokens",
            )
        return ids[0]

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

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
        if masks * query.options.top_k > MAX_PROPOSALS:
            raise RequestError(
                413,
                f"{masks} masks with top_k {query.options.top_k} ask for more than "
                f"{MAX_PROPOSALS} texts; send fewer masks or a lower top_k",
            )

    def _positions(self, row: Row) -> list[int]:
        return [at for at, token_id in enumerate(row.input_ids) if token_id == self._mask_id]

    def narrow(self, row: Row, outputs: Outputs) -> Outputs:
        """Logits `[length, vocabulary]` -> those of the masks, `[masks, vocabulary]`."""
        return (outputs[0][self._positions(row)],)

    def encode(self, query: Query, computed: Sequence[Sequence[Computed]]) -> Any:
        [[text]] = computed
        options: Options = query.options
        scores = torch.softmax(text.outputs[0].float(), dim=-1)
        if options.targets is not None:
            scores = scores[:, options.targets]
        best = torch.topk(scores, min(options.top_k, scores.shape[-1]))
        tokens = [
            at if options.targets is None else [options.targets[index] for index in at]
            for at in best.indices.tolist()
        ]
        rows = [
            self._proposals(text.row, position, *proposed)
            for position, *proposed in zip(
                self._positions(text.row), tokens, best.values.tolist(), strict=True
            )
        ]
        return rows[0] if len(rows) == 1 else rows

    def _proposals(
        self, row: Row, position: int, tokens: list[int], scores: list[float]
    ) -> list[dict[str, Any]]:
        """The entries for one mask, the best first. Source: postprocess."""
        # The other masks of a text are special tokens and would be dropped with them.
        single = row.input_ids.count(self._mask_id) == 1
        filled = [
            [*row.input_ids[:position], token, *row.input_ids[position + 1 :]] for token in tokens
        ]
        kept = [[each for each in ids if each != self._padding_id] for ids in filled]
        truncated = {"truncated": True} if row.truncated else {}
        return [
            {
                "score": score,
                "token": token,
                "token_str": self._spell([token], skip_special_tokens=False),
                "sequence": self._spell(ids, skip_special_tokens=single),
                **truncated,
            }
            for token, score, ids in zip(tokens, scores, kept, strict=True)
        ]

    def _spell(self, ids: list[int], skip_special_tokens: bool) -> str:
        """Source: TokenizersBackend._decode."""
        text = str(self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens))
        return clean_up(text) if self._clean_up else text

    def check_target(self, query: Query, wanted: Mapping[str, Any]) -> None:
        if wanted["target"] is not None:
            self._target_id(wanted["target"], "target")

    def targets(
        self, query: Query, computed: Sequence[Sequence[Computed]], wanted: Mapping[str, Any]
    ) -> list[Target]:
        """For each mask, the logit of the token asked for, else of the best one."""
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
        """The best token of each mask, a line each."""
        if isinstance(answer[0], list):
            return "\n".join(self.plain_text(each) for each in answer)
        return str(answer[0]["token_str"])
