"""An answer that is being generated, and its beginning from a tokenized prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from tokenizers import Tokenizer

from torchscript_bundle.serving.api.sampling import Settings
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.modes.mode_options import GenerationOptions
from torchscript_bundle.serving.text.detokenizer import Detokenizer
from torchscript_bundle.serving.text.stop_strings import StopStringMatcher

FAILED = RequestError(500, "the server could not answer this request")
#: Why an answer ended, in the words of Hugging Face's API.
Reason = Literal["length", "eos_token", "stop_sequence"]


@dataclass(frozen=True)
class Piece:
    """A token of an answer.

    `text` is the complete characters that it adds, if any; `logprob` the natural logarithm of the
    model's probability, before penalty and temperature; a `special` token is not part of the text.
    """

    token: int
    text: str
    logprob: float
    special: bool


class Answer:
    """The answer to one prompt (token ids), which grows by a token in each step up to `most`.

    `special` holds the texts of special tokens by id.
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
        """Whether it has ended or failed."""
        return self.reason is not None or self.error is not None

    def fail(self, error: RequestError) -> None:
        """End the answer by an error; the first one counts."""
        self.error = self.error or error

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(piece.text for piece in self.pieces)

    def draw(self) -> float:
        """Return the next random number in [0, 1), as `Generator.generate` draws them by seed."""
        return float(torch.rand(1, dtype=torch.float64, generator=self._randomness))

    def add(self, token: int, logprob: float) -> None:
        """Append a token, and end the answer if it is the last."""
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


class PromptReader:
    """Tokenizes prompts and checks their lengths; the tokenizer must not pad or truncate."""

    def __init__(self, bundle: Bundle, options: GenerationOptions, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._max_length = bundle.max_length
        self._reads_source = options.start_id >= 0
        self._default_new = options.default_max_new_tokens
        self._eos_ids = frozenset(options.eos_ids)
        self._clean_up = options.clean_up_spaces
        added = tokenizer.get_added_tokens_decoder()
        self._special = {at: token.content for at, token in added.items() if token.special}

    def start(self, text: str, settings: Settings, *, special_tokens: bool = True) -> Answer:
        """Begin the answer to a text; 422 for one without tokens, 413 for one that is too long.

        Use `special_tokens=False` after a chat template, which has added them.
        """
        prompt = list(self._tokenizer.encode(text, add_special_tokens=special_tokens).ids)
        if not prompt:
            raise RequestError(422, "the text has no tokens; send at least one word")
        wanted = settings.max_new_tokens
        if self._reads_source:
            self._check(prompt, self._max_length, "")
            room = self._max_length - 1
        else:
            least = 1 if wanted is None else wanted
            beside = f" where max_new_tokens is {wanted}" if wanted is not None else ""
            self._check(prompt, self._max_length - least, beside)
            room = self._max_length - len(prompt)
        most = min(self._default_new, room) if wanted is None else wanted
        before: Sequence[int] = () if self._reads_source else prompt
        spelling = Detokenizer(self._tokenizer, before, clean_up=self._clean_up)
        return Answer(prompt, settings, most, self._eos_ids, spelling, self._special)

    def _check(self, prompt: Sequence[int], most: int, beside: str) -> None:
        if len(prompt) > most:
            raise RequestError(
                413,
                f"the text has {len(prompt)} tokens; send at most {most} (special tokens "
                f"included){beside}",
            )
