"""The target of an explanation, the fields that name it, and the attribution to tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from torchscript_bundle.serving.api.fields import Field, listed
from torchscript_bundle.serving.api.json_schema import COUNT, JsonSchema, either, words
from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.text.tokenizer import Row

MOST_DIGITS = 9
DIGITS: JsonSchema = {"type": "string", "pattern": f"^[0-9]{{1,{MOST_DIGITS}}}$"}


def read_index(value: object) -> int | None:
    """Return an index from 0, sent as a number or as digits; None for any other value."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value) if len(value) <= MOST_DIGITS else None
    return value if type(value) is int and value >= 0 else None


@dataclass(frozen=True)
class Index(Field):
    """An index from 0."""

    def check(self, value: object) -> int:
        index = read_index(value)
        if index is None:
            raise RequestError(422, f"{self.name} must be a whole number of at least 0")
        return index

    def bounds(self) -> JsonSchema:
        return either(COUNT, DIGITS)


@dataclass(frozen=True)
class Label(Field):
    """A label of the model, by its name or index; `check` returns the index."""

    _: KW_ONLY
    labels: Sequence[str]

    def check(self, value: object) -> Any:
        return self.index(value)

    def index(self, value: object) -> int:
        """Return the index of a label."""
        if isinstance(value, str) and value in self.labels:
            return self.labels.index(value)
        index = read_index(value)
        if index is None or index >= len(self.labels):
            raise RequestError(
                422,
                f"{self.name} must be one of {listed(self.labels)}, or the index of one, from 0 to "
                f"{len(self.labels) - 1}",
            )
        return index

    def bounds(self) -> JsonSchema:
        index = {"type": "integer", "minimum": 0, "maximum": len(self.labels) - 1}
        return either(words(self.labels), index, words(map(str, range(len(self.labels)))))


@dataclass(frozen=True)
class LabelOfToken:
    """The indices of a label and a token, special ones counted; None for the answer's token."""

    label: int
    token: int | None


@dataclass(frozen=True)
class TokenLabel(Label):
    """A label, or `[token, label]` as in captum's targets of outputs `[tokens, labels]`."""

    def check(self, value: object) -> LabelOfToken:
        if not isinstance(value, list):
            return LabelOfToken(self.index(value), None)
        token = read_index(value[0]) if len(value) == 2 else None
        if token is None:
            raise RequestError(
                422, f"{self.name} as a list must be [token, label], the token counted from 0"
            )
        return LabelOfToken(self.index(value[1]), token)

    def bounds(self) -> JsonSchema:
        label = super().bounds()
        pair = {
            "type": "array",
            "prefixItems": [either(COUNT, DIGITS), label],
            "minItems": 2,
            "maxItems": 2,
        }
        return either(label, pair)


@dataclass(frozen=True)
class Target:
    """One number among the outputs for a row, to be explained.

    Attributes:
        name: for people: a label, or `start`.
        row: the text, or a window of it, with its encoding.
        texts: the row's texts as sent, by the client's name for each, in the row's order.
        output: index of `Bundle.outputs`.
        place: `(class,)`, `(token,)` or `(token, class)` there; tokens count without padding.
        per_token: whether `place` begins with a token.
    """

    name: str
    row: Row
    texts: Mapping[str, str]
    output: int
    place: tuple[int, ...]
    per_token: bool = False


@dataclass(frozen=True)
class Attribution:
    """The attribution of a target to the tokens of its row.

    `importances` are how much each token raised the number; 0 for special tokens. `output` and
    `baseline_output` are the number, a logit, for the row and for the baseline; `delta` is the
    convergence delta: the sum of the importances less the difference of the two.
    """

    importances: list[float]
    output: float
    baseline_output: float
    delta: float
