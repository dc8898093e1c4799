"""What is explained, and what is found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torchscript_bundle.serving.tokenization import Row


@dataclass(frozen=True)
class Target:
    """One number among the outputs for a row, whose making is to be explained.

    Attributes:
        name: what it is, for people: a label, or `start`.
        row: the text, or the window of it, with its encoding.
        texts: the row's texts as they were sent, by the client's name for each, in the row's order.
        output: which of `Bundle.outputs`.
        place: where in it, rows left out: `(class,)`, `(token,)` or `(token, class)`, with tokens
            counted without padding.
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
    """What the tokens did to a target.

    Attributes:
        importances: `[length]`, by token: how much it raised the number; 0 for special tokens.
        output: the number, a logit.
        baseline_output: the number for the same row with padding for tokens.
        delta: the sum of the importances less the difference of the two; 0 were the steps many.
    """

    importances: list[float]
    output: float
    baseline_output: float
    delta: float
