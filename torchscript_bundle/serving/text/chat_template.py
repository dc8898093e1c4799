"""Messages -> a prompt, by the model's own chat template (transformers' `apply_chat_template`)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from torchscript_bundle.serving.errors import ArtifactError, RequestError
from torchscript_bundle.serving.text.jinja import RefusedError, Template, TooMuchError

logger = logging.getLogger(__name__)

#: OpenAI's newer name of the system role.
DEVELOPER, SYSTEM = "developer", "system"
#: Cached sequences of roles, with the messages that the template leaves out.
MOST_REMEMBERED = 256
#: Most characters of a template's own error message.
LONGEST_REASON = 300

Message = Mapping[str, str]


class ChatTemplate:
    """A model's chat template; `special_tokens` are spellings by role, such as `bos_token`."""

    def __init__(self, source: str, special_tokens: Mapping[str, Any]) -> None:
        try:
            self._template = Template(source)
        except ValueError as error:
            raise ArtifactError(f"bundle.json: chat_template: {error}") from error
        self._special_tokens = dict(special_tokens)
        self._knows_developer = DEVELOPER in source
        self._left_out = lru_cache(MOST_REMEMBERED)(self._find_left_out)
        self._warn_if_broken()

    def render(self, messages: Sequence[Message]) -> str:
        """Return the prompt that ends where the model's answer begins.

        A template without the role `developer` gets such messages as `system`, the same to OpenAI.
        Messages that the template would silently leave out get a 422.
        """
        sent = messages if self._knows_developer else [_as_system(each) for each in messages]
        try:
            prompt = self._render(sent)
        except TooMuchError:
            raise RequestError(
                413,
                "the model's chat template has too much to do with these messages; send fewer or "
                "shorter ones",
            ) from None
        except Exception as error:
            # A template's own error is its author's sentence; other errors may quote the messages.
            said = f" ({str(error)[:LONGEST_REASON]})" if isinstance(error, RefusedError) else ""
            raise RequestError(
                422,
                f"the model's chat template does not take these messages{said}; send others, such "
                "as one of the role user",
            ) from None
        for at in self._left_out(tuple(each["role"] for each in sent)):
            if sent[at]["content"].strip():
                raise RequestError(
                    422,
                    f"the model's chat template leaves message {at}, of the role "
                    f"{messages[at]['role']}, out; put its text into a message of the role user",
                )
        return prompt

    def _render(self, messages: Sequence[Message]) -> str:
        return self._template.render(
            messages=messages,
            tools=None,
            documents=None,
            add_generation_prompt=True,
            **self._special_tokens,
        )

    def _find_left_out(self, roles: tuple[str, ...]) -> tuple[int, ...]:
        """Render made-up words to find messages that are not written; none if that fails."""
        words = [f"zq{at}x" for at in range(len(roles))]
        messages = [
            {"role": role, "content": word} for role, word in zip(roles, words, strict=True)
        ]
        try:
            written = self._render(messages).lower()
        except Exception:
            return ()
        return tuple(at for at, word in enumerate(words) if word not in written)

    def _warn_if_broken(self) -> None:
        try:
            self._render([{"role": "user", "content": "a"}])
        except Exception as error:
            logger.warning(
                "the model's chat template fails on a chat of one message (%s): requests with "
                "messages will get a 422",
                type(error).__name__,
            )


def _as_system(message: Message) -> Message:
    return {**message, "role": SYSTEM} if message["role"] == DEVELOPER else message
