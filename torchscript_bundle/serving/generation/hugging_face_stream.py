"""Responses as https://huggingface.github.io/text-generation-inference gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torchscript_bundle.serving.api.http import HttpRequest, HttpResponse
from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.generation.answer import Answer
from torchscript_bundle.serving.generation.response_stream import ResponseStream, event
from torchscript_bundle.serving.modes.base import Query
from torchscript_bundle.serving.modes.text_generation import (
    TextGeneration,
    describe_token,
)


class HuggingFaceStream(ResponseStream):
    """Sends a token in each event; a whole response has the mode's answers in `reply`'s form."""

    def __init__(
        self,
        request: HttpRequest,
        answers: Sequence[Answer],
        streamed: bool,
        mode: TextGeneration,
        queries: Sequence[Query],
        reply: Callable[[list[Any]], Any],
    ) -> None:
        super().__init__(request, answers, streamed)
        self._mode = mode
        self._queries = queries
        self._reply = reply

    def _whole(self) -> HttpResponse:
        pairs = zip(self._queries, self.answers, strict=True)
        values = [self._mode.encode(query, answer) for query, answer in pairs]
        return self._mode.respond(self.request, values, self._reply)

    def _error(self, error: RequestError) -> dict[str, Any]:
        return {"error": error.message, **({"error_type": "generation"} if self.streamed else {})}

    def _piece(self, index: int, answer: Answer, at: int) -> Iterator[bytes]:
        last = answer.done and at == len(answer.pieces) - 1
        text = self._mode.full_text(self._queries[index], answer) if last else None
        yield event(
            {
                "index": at + 1,
                "token": describe_token(answer.pieces[at]),
                "generated_text": text,
                "details": _details(answer) if last else None,
            }
        )


def _details(answer: Answer) -> dict[str, Any]:
    return {
        "finish_reason": answer.reason,
        "generated_tokens": len(answer.pieces),
        "input_length": len(answer.prompt),
        "seed": answer.settings.seed if answer.settings.do_sample else None,
    }
