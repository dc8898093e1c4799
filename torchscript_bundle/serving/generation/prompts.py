"""Texts -> answers that can be begun, or a sentence on why they cannot."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer

from torchscript_bundle.serving.api.sampling import Settings
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.generation.answer import Answer
from torchscript_bundle.serving.modes.options import GenerationOptions
from torchscript_bundle.serving.text.detokenizer import Spelling


class PromptReader:
    """Makes answers of texts.

    Args:
        bundle: the artifact's `bundle.json`.
        options: its mode's.
        tokenizer: the artifact's, which neither pads nor truncates.
    """

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
        """The answer to a text, without a token yet.

        Args:
            text: the prompt.
            settings: how it is to be written.
            special_tokens: whether the tokenizer adds those; a chat template has written its own.

        Raises:
            RequestError: 422 for a text without tokens; 413 for one that is too long, which says
                how long it may be.
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
        spelling = Spelling(self._tokenizer, before, self._clean_up)
        return Answer(prompt, settings, most, self._eos_ids, spelling, self._special)

    def _check(self, prompt: Sequence[int], most: int, beside: str) -> None:
        if len(prompt) > most:
            raise RequestError(
                413,
                f"the text has {len(prompt)} tokens; send at most {most} (special tokens "
                f"included){beside}",
            )
