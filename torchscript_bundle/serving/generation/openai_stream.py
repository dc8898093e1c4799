"""Responses to OpenAI's clients (https://platform.openai.com/docs/api-reference)."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from torchscript_bundle.serving.api.http import HttpRequest, HttpResponse, json_response
from torchscript_bundle.serving.api.openai.error_form import error_body, in_openai_shape
from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.generation.answer import Answer
from torchscript_bundle.serving.generation.response_stream import ResponseStream, event

DONE = b"data: [DONE]\n\n"


class OpenAIStream(ResponseStream):
    """The response to a completion or, with `chat`, to a chat completion."""

    def __init__(
        self,
        request: HttpRequest,
        answers: Sequence[Answer],
        streamed: bool,
        *,
        model: str,
        chat: bool,
        usage: bool,
    ) -> None:
        super().__init__(request, answers, streamed)
        self._model = model
        self._chat = chat
        self._counted = usage
        self._id = ("chatcmpl-" if chat else "cmpl-") + uuid.uuid4().hex
        self._created = int(time.time())

    def adapt(self, response: HttpResponse) -> HttpResponse:
        return in_openai_shape(response)

    def _whole(self) -> HttpResponse:
        kind = "chat.completion" if self._chat else "text_completion"
        choices = [
            self._choice(
                index,
                {"message": {"role": "assistant", "content": answer.text, "refusal": None}}
                if self._chat
                else {"text": answer.text},
                _reason(answer),
            )
            for index, answer in enumerate(self.answers)
        ]
        return json_response(200, {**self._head(kind, choices), "usage": self._usage()})

    def _error(self, error: RequestError) -> dict[str, Any]:
        return error_body(error.status, error.message)

    def _first(self) -> Iterator[bytes]:
        if self._chat:
            yield self._chunk(0, {"delta": {"role": "assistant", "content": ""}}, None)

    def _piece(self, index: int, answer: Answer, at: int) -> Iterator[bytes]:
        text = answer.pieces[at].text
        if text:
            yield self._chunk(index, {"delta": {"content": text}} if self._chat else {"text": text})
        if answer.done and at == len(answer.pieces) - 1:
            empty: dict[str, Any] = {"delta": {}} if self._chat else {"text": ""}
            yield self._chunk(index, empty, _reason(answer))

    def _last(self) -> Iterator[bytes]:
        if self._counted:
            yield event({**self._head(self._chunk_kind, []), "usage": self._usage()})
        yield DONE

    @property
    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self._chat else "text_completion"

    def _chunk(self, index: int, content: dict[str, Any], reason: str | None = None) -> bytes:
        choices = [self._choice(index, content, reason)]
        counted = {"usage": None} if self._counted else {}
        return event({**self._head(self._chunk_kind, choices), **counted})

    def _head(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }

    def _choice(self, index: int, content: dict[str, Any], reason: str | None) -> dict[str, Any]:
        return {"index": index, **content, "logprobs": None, "finish_reason": reason}

    def _usage(self) -> dict[str, int]:
        read = sum(len(answer.prompt) for answer in self.answers)
        written = sum(len(answer.pieces) for answer in self.answers)
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _reason(answer: Answer) -> str:
    return "length" if answer.reason == "length" else "stop"
