"""Token classification: a text -> the entities in it, such as persons and places.

Answers are those of Hugging Face's token-classification task, with `start` and `end` in characters
of the text. Long texts are split into overlapping windows. Source: the methods named below of
transformers' TokenClassificationPipeline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Encoding, Tokenizer

from torchscript_bundle.serving.api import fields
from torchscript_bundle.serving.api.json_schema import (
    COUNT,
    NUMBER,
    STRING,
    array,
    either,
    record,
    words,
)
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.explanations.target import LabelOfToken, Target, TokenLabel
from torchscript_bundle.serving.modes.base import Computed, ForwardMode, Parameters, Query
from torchscript_bundle.serving.modes.entities import (
    WORD_STRATEGIES,
    Entity,
    Token,
    argmax,
    best,
    group,
    group_words,
    merge_overlapping,
)
from torchscript_bundle.serving.text.tokenizer import Row, Truncation

NONE = "none"
STRATEGIES = (NONE, "simple", *WORD_STRATEGIES)
OUTSIDE = "O"


@dataclass(frozen=True)
class NerParameters(Parameters):
    aggregation_strategy: str
    stride: int
    ignore_labels: Sequence[str]


class TokenClassification(ForwardMode):
    item_keys = fields.named(fields.TEXT, fields.UNREAD_TARGET)
    truncation = Truncation(windows=True)

    def __init__(self, bundle: Bundle) -> None:
        self._labels = bundle.labels
        self._max_length = bundle.max_length
        self._unknown = bundle.special_ids.get("unk")
        span = {"score": NUMBER, "word": STRING, "start": COUNT, "end": COUNT}
        self._groups = [_group_name(label) for label in bundle.labels]
        entity = record({"entity_group": words(self._groups), **span})
        token = record({"entity": words(bundle.labels), "index": COUNT, **span})
        self.answer_schema = either(array(entity), array(token))

    def set_tokenizer(self, tokenizer: Tokenizer) -> None:
        super().set_tokenizer(tokenizer)
        room = self._max_length - tokenizer.num_special_tokens_to_add(False)
        self._marks_subwords = bool(getattr(tokenizer.model, "continuing_subword_prefix", None))
        strategy, ignored = "How tokens become entities.", "Labels, or groups, to leave out."
        shared = "Tokens that the windows of a long text share."
        known = sorted({OUTSIDE, *self._labels, *self._groups})
        # At most half a window: the number of windows grows without bound towards a whole one.
        half, quarter = room // 2, room // 4
        self.parameters = fields.named(
            fields.Choice("aggregation_strategy", strategy, choices=STRATEGIES, default="simple"),
            fields.Whole("stride", shared, least=0, most=half, default=quarter),
            fields.Choices("ignore_labels", ignored, choices=known, default=[OUTSIDE]),
        )
        self.target_parameters = fields.named(
            TokenLabel("target", "The label, or [token, label].", labels=self._labels),
            fields.Whole("position", "A character of the token that is explained.", least=0),
        )

    def decode(self, item: object, parameters: Mapping[str, object]) -> Query:
        text = fields.read_item(self.item_keys, item)["text"]
        wanted = NerParameters.read(self.parameters, parameters)
        strategy = wanted.aggregation_strategy
        if strategy == NONE and "stride" in parameters:
            raise RequestError(
                422, 'stride needs another aggregation_strategy than "none", such as "simple"'
            )
        known = {OUTSIDE, *(self._labels if strategy == NONE else self._groups)}
        if not known.issuperset(wanted.ignore_labels):
            raise RequestError(
                422,
                f'with aggregation_strategy "{strategy}" ignore_labels takes '
                f"{fields.listed(sorted(known))}",
            )
        return Query([text], wanted, wanted.stride)

    def check(self, query: Query, rows: Sequence[Sequence[Row]]) -> None:
        if query.parameters.aggregation_strategy == NONE and len(rows[0]) > 1:
            raise RequestError(
                413,
                f"the text has more than {self._max_length} tokens (special tokens included), for "
                'which aggregation_strategy "none" is not defined; send another, such as "simple", '
                "or a shorter text",
            )

    def encode(self, query: Query, computed: Sequence[Sequence[Computed]]) -> Any:
        [windows] = computed
        [text] = query.texts
        wanted: NerParameters = query.parameters
        strategy, ignored = wanted.aggregation_strategy, frozenset(wanted.ignore_labels)
        entities = [
            entity
            for window in windows
            for entity in self._aggregate(self._tokens(window, str(text)), strategy)
            if entity.name not in ignored
        ]
        if len(windows) > 1:
            entities = merge_overlapping(entities)
        key = "entity" if strategy == NONE else "entity_group"
        return [_as_json(entity, key) for entity in entities]

    def _tokens(self, window: Computed, text: str) -> list[Token]:
        """Return the tokens that are not special. Source: gather_pre_entities."""
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

    def check_target(self, query: Query, wanted: Mapping[str, Any]) -> None:
        position, size = wanted["position"], len(query.texts[0])
        if position is not None and position >= size:
            raise RequestError(422, f"position must be below {size}, the characters of the text")
        target: LabelOfToken | None = wanted["target"]
        if position is not None and target is not None and target.token is not None:
            raise RequestError(422, "position and target both name a token; send one of them")

    def targets(
        self, query: Query, computed: Sequence[Sequence[Computed]], wanted: Mapping[str, Any]
    ) -> list[Target]:
        """Return the logit of the requested label and token, or of the surest entity."""
        [windows] = computed
        [text] = query.texts
        target: LabelOfToken | None = wanted["target"]
        if target is not None and target.token is not None:
            self._check_token_index(target.token, windows)
            return [self._target(windows[0], str(text), target.token, target.label)]
        tokens = [(each, token) for each in windows for token in self._tokens(each, str(text))]
        position = wanted["position"]
        if position is not None:
            tokens = [each for each in tokens if each[1].start <= position < each[1].end]
        if not tokens:
            raise RequestError(
                422,
                "position has no token; send the place of a letter, counted in characters from 0",
            )
        window, token = max(tokens, key=lambda each: self._entity_score(each[1].scores))
        label = argmax(token.scores) if target is None else target.label
        return [self._target(window, str(text), token.index, label)]

    def _target(self, window: Computed, text: str, token: int, label: int) -> Target:
        place, texts = (token, label), {"text": text}
        return Target(self._labels[label], window.row, texts, 0, place, per_token=True)

    def _entity_score(self, scores: Sequence[float]) -> float:
        """Return the best score of a label that marks an entity."""
        pairs = zip(self._labels, scores, strict=True)
        return max(
            (score for label, score in pairs if label != OUTSIDE or len(scores) == 1), default=0.0
        )

    def plain_text(self, answer: Any) -> str:
        """Return one line, such as `Ada Lovelace (PER), London (LOC)`."""
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
