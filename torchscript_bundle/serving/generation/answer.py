"""An answer that is being written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from torchscript_bundle.serving.api.sampling import Settings
from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.text.detokenizer import Detokenizer
from torchscript_bundle.serving.text.stop_strings import StopStringMatcher

FAILED = RequestError(500, "the server could not answer this request")
#: Why an answer ended, in Hugging Face's words.
Reason = Literal["length", "eos_token", "stop_sequence"]


@dataclass(frozen=True)
class Piece:
    """What one token adds to an answer.

    Attributes:
        token: its id.
        text: whole characters that can be shown now; empty while one waits for its rest.
        logprob: natural logarithm of the probability that the model gave the token, before the
            penalty, the temperature and the like.
        special: whether it is no part of the text.
    """

    token: int
    text: str
    logprob: float
    special: bool


class Answer:
    """One row's answer, from its prompt to its end.

    Args:
        prompt: token ids.
        settings: how it is written.
        most: most tokens, where the settings do not say: what there is room for.
        eos_ids: tokens that end it.
        spelling: spells its tokens.
        special: how the tokens are spelled that are no part of a text.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        settings: Settings,
        most: int,
        eos_ids: frozenset[int],
        spelling: Detokenizer,
        special: Mapping[int, str],
    ) -> None:
        self.prompt = prompt
        self.settings = settings
        self.most = most
        self.pieces: list[Piece] = []
        self.reason: Reason | None = None
        self.error: RequestError | None = None
        self._eos_ids = eos_ids
        self._special = special
        self._spelling = spelling
        self._stops = StopStringMatcher(settings.stop, keep=settings.keep_stop)
        self._randomness = torch.Generator().manual_seed(settings.seed)

    @property
    def done(self) -> bool:
        """Whether nothing will be added any more."""
        return self.reason is not None or self.error is not None

    def fail(self, error: RequestError) -> None:
        """Ends the answer without its being whole; the first error counts."""
        self.error = self.error or error

    @property
    def text(self) -> str:
        """What is written so far."""
        return "".join(piece.text for piece in self.pieces)

    def draw(self) -> float:
        """The next random number in [0, 1); one for each token, as `Generator.generate` has it."""
        return float(torch.rand(1, dtype=torch.float64, generator=self._randomness))

    def add(self, token: int, logprob: float) -> None:
        """Takes the next token, and sees whether it is the last."""
        shown = self._stops.feed(self._spelling.feed(token))
        if token in self._special:
            shown += self._stops.feed(self._special[token], special=True)
        if token in self._eos_ids:
            self.reason = "eos_token"
        elif len(self.pieces) + 1 >= self.most:
            self.reason = "length"
        if self.reason is not None and not self._stops.found:
            shown += self._stops.feed(self._spelling.rest())
            if not self._stops.found:
                shown += self._stops.rest()
        if self._stops.found:
            self.reason = "stop_sequence"
        self.pieces.append(Piece(token, shown, logprob, token in self._special))
