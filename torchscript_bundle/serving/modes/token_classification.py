"""Token classification: texts -> the entities in them, such as persons and places.

Answers as the Hugging Face token-classification task does, `start` and `end` in characters of the
client's text. A long text is taken in windows that overlap.

Source: transformers' TokenClassificationPipeline, whose methods are named below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Encoding, Tokenizer

from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.explanations.target import Target
from torchscript_bundle.serving.modes.base import Computed, Query
from torchscript_bundle.serving.modes.entities import (
    WORD_STRATEGIES,
    Entity,
    Token,
    best,
    group,
    group_words,
    merge_overlapping,
)
from torchscript_bundle.serving.texts import (
    check_choice,
    check_item,
    check_label,
    check_text,
    check_whole,
)
from torchscript_bundle.serving.tokenization import Row, Truncation

NONE = "none"
STRATEGIES = (NONE, "simple", *WORD_STRATEGIES)
OUTSIDE = "O"


@dataclass(frozen=True)
class Options:
    """How the tokens of a text become entities, and which entities are left out."""

    text: str
    strategy: str
    ignored: frozenset[str]


class TokenClassification:
    """See the module."""

    item_keys = ("text",)
    parameters = ("aggregation_strategy", "stride", "ignore_labels")
    target_parameters = ("target", "position")
    truncation = Truncation(windows=True)

    def __init__(self, bundle: Bundle) -> None:
        self._labels = bundle.labels
        self._max_length = bundle.max_length
        self._unknown = bundle.special_ids.get("unk")

    def set_tokenizer(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._room = self._max_length - tokenizer.num_special_tokens_to_add(False)
        self._marks_subwords = bool(getattr(tokenizer.model, "continuing_subword_prefix", None))

    def decode(self, item: object, parameters: Mapping[str, object]) -> Query:
        if isinstance(item, dict):
            item = check_item(item, self.item_keys, required=self.item_keys)["text"]
        text = check_text(item)
        strategy = check_choice(
            parameters.get("aggregation_strategy", "simple"), "aggregation_strategy", STRATEGIES
        )
        ignored = self._check_ignored(parameters.get("ignore_labels", [OUTSIDE]), strategy)
        stride = self._check_stride(parameters, strategy)
        return Query([text], Options(text, strategy, ignored), stride)

    def _check_stride(self, parameters: Mapping[str, object], strategy: str) -> int:
        """At most half a window: the larger, the more windows a text makes, without bound."""
        if "stride" not in parameters:
            return self._room // 4
        if strategy == NONE:
            raise RequestError(
                422, 'stride needs another aggregation_strategy than "none", such as "simple"'
            )
        return check_whole(parameters["stride"], "stride", 0, self._room // 2)

    def _check_ignored(self, value: object, strategy: str) -> frozenset[str]:
        names = self._labels if strategy == NONE else [_group_name(name) for name in self._labels]
        known = {OUTSIDE, *names}
        given = value if isinstance(value, list) else [None]
        if not all(isinstance(each, str) and each in known for each in given):
            listed = ", ".join(sorted(known)[:20]) + (", ..." if len(known) > 20 else "")
            raise RequestError(
                422,
                f'ignore_labels must be a list; with aggregation_strategy "{strategy}" it takes '
                f"{listed}",
            )
        return frozenset(given)

    def check(self, query: Query, rows: Sequence[Sequence[Row]]) -> None:
        options: Options = query.options
        if options.strategy == NONE and len(rows[0]) > 1:
            raise RequestError(
                413,
                f"the text has more than {self._max_length} tokens (special tokens included), for "
                'which aggregation_strategy "none" is not defined; send another, such as "simple", '
                "or a shorter text",
            )

    def encode(self, query: Query, computed: Sequence[Sequence[Computed]]) -> Any:
        [windows] = computed
        options: Options = query.options
        entities = [
            entity
            for window in windows
            for entity in self._aggregate(self._tokens(window, options.text), options.strategy)
            if entity.name not in options.ignored
        ]
        if len(windows) > 1:
            entities = merge_overlapping(entities)
        key = "entity" if options.strategy == NONE else "entity_group"
        return [_as_json(entity, key) for entity in entities]

    def _tokens(self, window: Computed, text: str) -> list[Token]:
        """The tokens that are not special. Source: gather_pre_entities."""
        encoding = window.row.encoding
        if encoding is None:
            raise ValueError("a row without its encoding has no offsets")
        scores = torch.softmax(window.outputs[0].float(), dim=-1).cpu().tolist()
        return [
            self._token(encoding, index, scores[index], text)
            for index, special in enumerate(encoding.special_tokens_mask)
            if not special
        ]

    def _token(self, encoding: Encoding, index: int, scores: list[float], text: str) -> Token:
        start, end = encoding.offsets[index]
        token_id = encoding.ids[index]
        if token_id == self._unknown:
            return Token(text[start:end], scores, start, end, index, is_subword=False)
        word = str(self._tokenizer.id_to_token(token_id))
        if self._marks_subwords:
            is_subword = len(word) != end - start
        else:
            is_subword = start > 0 and " " not in text[start - 1 : start + 1]
        return Token(word, scores, start, end, index, is_subword)

    def _aggregate(self, tokens: list[Token], strategy: str) -> list[Entity]:
        """Source: aggregate."""
        if strategy in WORD_STRATEGIES:
            entities = group_words(tokens, strategy, self._labels, self._spell)
        else:
            entities = [best(token, self._labels) for token in tokens]
        return entities if strategy == NONE else group(entities, _group_name, self._spell)

    def _spell(self, tokens: list[str]) -> str:
        """Source: TokenizersBackend.convert_tokens_to_string."""
        decoder = self._tokenizer.decoder
        return " ".join(tokens) if decoder is None else str(decoder.decode(tokens))

    def check_target(self, query: Query, parameters: Mapping[str, object]) -> None:
        if "target" in parameters:
            check_label(parameters["target"], self._labels)
        if "position" in parameters:
            last = len(query.options.text) - 1
            check_whole(parameters["position"], "position", 0, last)

    def targets(
        self,
        query: Query,
        computed: Sequence[Sequence[Computed]],
        parameters: Mapping[str, object],
    ) -> list[Target]:
        """The logit of a label at a token: asked for, else those of the surest entity."""
        [windows] = computed
        options: Options = query.options
        tokens = [
            (window, token) for window in windows for token in self._tokens(window, options.text)
        ]
        position = parameters.get("position")
        if position is not None:
            tokens = [each for each in tokens if each[1].start <= position < each[1].end]  # type: ignore[operator]
        if not tokens:
            raise RequestError(
                422,
                "position has no token; send the place of a letter, counted in characters from 0",
            )
        window, token = max(tokens, key=lambda each: self._inside(each[1].scores))
        best = self._labels[max(range(len(self._labels)), key=token.scores.__getitem__)]
        label = str(parameters.get("target", best))
        place = (token.index, self._labels.index(label))
        return [Target(label, window.row, {"text": options.text}, 0, place, per_token=True)]

    def _inside(self, scores: Sequence[float]) -> float:
        """How sure it is that a token is of an entity."""
        pairs = zip(self._labels, scores, strict=True)
        return max(
            (score for label, score in pairs if label != OUTSIDE or len(scores) == 1), default=0.0
        )

    def plain_text(self, answer: Any) -> str:
        """One line: `Ada Lovelace (PER), London (LOC)`."""
        return ", ".join(
            f"{entity['word']} ({entity.get('entity_group', entity.get('entity'))})"
            for entity in answer
        )


def _group_name(label: str) -> str:
    """`B-PER` -> `PER`. Source: group_sub_entities."""
    return label.split("-", 1)[-1]


def _as_json(entity: Entity, key: str) -> dict[str, Any]:
    index = {} if entity.index is None else {"index": entity.index}
    span = {"word": entity.word, "start": entity.start, "end": entity.end}
    return {key: entity.name, "score": entity.score, **index, **span}
