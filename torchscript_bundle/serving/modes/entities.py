"""Token labels -> entities, by the rules of transformers' TokenClassificationPipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

WORD_STRATEGIES = ("first", "average", "max")

#: Tokens, or words -> their text.
Spell = Callable[[list[str]], str]


@dataclass(frozen=True)
class Token:
    """A token of a text.

    Attributes:
        word: its entry in the vocabulary; for an unknown token, its characters.
        scores: `[labels]`.
        start: its first character in the text; `end` is the one after its last.
        index: its index in the row.
        is_subword: whether it continues the word of the token before it.
    """

    word: str
    scores: Sequence[float]
    start: int
    end: int
    index: int
    is_subword: bool


@dataclass(frozen=True)
class Entity:
    """A token, a word or a group of them with its label; `index` is that of a single token."""

    name: str
    score: float
    word: str
    start: int
    end: int
    index: int | None = None


def best(token: Token, labels: Sequence[str]) -> Entity:
    """Return a token with its best label. Source: aggregate."""
    at = argmax(token.scores)
    name, score = labels[at], token.scores[at]
    return Entity(name, score, token.word, token.start, token.end, token.index)


def group_words(
    tokens: Sequence[Token], strategy: str, labels: Sequence[str], spell: Spell
) -> list[Entity]:
    """Return an entity for each word: a token and its subwords. Source: aggregate_words."""
    words: list[list[Token]] = []
    for token in tokens:
        if words and token.is_subword:
            words[-1].append(token)
        else:
            words.append([token])
    return [_word(word, strategy, labels, spell) for word in words]


def _word(tokens: list[Token], strategy: str, labels: Sequence[str], spell: Spell) -> Entity:
    """Source: aggregate_word."""
    if strategy == "first":
        scores = tokens[0].scores
    elif strategy == "max":
        scores = max((token.scores for token in tokens), key=max)
    else:
        scores = [_mean(column) for column in zip(*(token.scores for token in tokens), strict=True)]
    at = argmax(scores)
    word = spell([token.word for token in tokens])
    return Entity(labels[at], scores[at], word, tokens[0].start, tokens[-1].end)


def group(entities: Iterable[Entity], rename: Callable[[str], str], spell: Spell) -> list[Entity]:
    """Join neighbouring tokens or words of one kind; a `B-` label begins a new group.

    `rename` makes a group's name of a label. Source: group_entities, group_sub_entities.
    """
    groups: list[list[Entity]] = []
    for entity in entities:
        begins, kind = _tag(entity.name)
        if groups and not begins and kind == _tag(groups[-1][-1].name)[1]:
            groups[-1].append(entity)
        else:
            groups.append([entity])
    return [
        Entity(
            name=rename(members[0].name),
            score=_mean([member.score for member in members]),
            word=spell([member.word for member in members]),
            start=members[0].start,
            end=members[-1].end,
        )
        for members in groups
    ]


def merge_overlapping(entities: Iterable[Entity]) -> list[Entity]:
    """Keep the longest, then the surest, of entities that overlap where windows do.

    Source: aggregate_overlapping_entities, which copies a first entity without characters.
    """
    ordered = sorted(entities, key=lambda entity: entity.start)
    merged = ordered[:1]
    for entity in ordered[1:]:
        last = merged[-1]
        if not last.start <= entity.start < last.end:
            merged.append(entity)
        elif (entity.end - entity.start, entity.score) > (last.end - last.start, last.score):
            merged[-1] = entity
    return merged


def _tag(label: str) -> tuple[bool, str]:
    """Return whether a label begins an entity, and its kind. Source: get_tag."""
    if label.startswith(("B-", "I-")):
        return label.startswith("B-"), label[2:]
    return False, label


def argmax(scores: Sequence[float]) -> int:
    """Return the index of the first of the largest scores."""
    return max(range(len(scores)), key=scores.__getitem__)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
