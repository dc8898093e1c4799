"""The response to a generation request: whole at the end, or as server-sent events."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from torchscript_bundle.serving.api.http import (
    HttpRequest,
    HttpResponse,
    json_response,
    retry_headers,
)
from torchscript_bundle.serving.errors import RequestError, log_failure
from torchscript_bundle.serving.generation.answer import FAILED, Answer

#: A comment, which clients skip; it reveals a lost connection.
KEEP_ALIVE = b":\n\n"


class ResponseStream(ABC):
    """One request with an answer for each of its texts; the client may get events."""

    def __init__(self, request: HttpRequest, answers: Sequence[Answer], streamed: bool) -> None:
        self.request = request
        self.answers = answers
        self.streamed = streamed
        self._sent = [0] * len(answers)
        self._closed = False
        self._begun = False

    @property
    def done(self) -> bool:
        """Whether all answers are done, or one has failed."""
        return self.failure is not None or all(answer.done for answer in self.answers)

    @property
    def failure(self) -> RequestError | None:
        """The first answer's error; in a list, with the index of its text."""
        for at, answer in enumerate(self.answers):
            if (error := answer.error) is not None:
                # A timeout is not the fault of one text.
                alone = len(self.answers) == 1 or error.status in (503, 504)
                where = "" if alone else f"item {at} of the list: "
                return RequestError(
                    error.status, where + error.message, retry_after=error.retry_after
                )
        return None

    def response(self) -> HttpResponse:
        """Return the whole response, once it is done."""
        if (error := self.failure) is not None:
            return json_response(error.status, self._error(error), retry_headers(error))
        return self._whole()

    def events(self) -> bytes:
        """Return the events since the last call."""
        if self._closed:
            return b""
        self._closed = self.done
        if (failure := self.failure) is not None:
            return event(self._error(failure))
        try:
            made = b"".join(self._events())
        except Exception as error:  # other requests share the call
            log_failure("telling what was written", error)
            self._closed = True
            self.answers[0].fail(FAILED)
            return event(self._error(FAILED))
        if not made and any(answer.pieces for answer in self.answers):
            return KEEP_ALIVE
        return made

    def _events(self) -> Iterator[bytes]:
        if not self._begun and any(answer.pieces for answer in self.answers):
            self._begun = True
            yield from self._first()
        for index, answer in enumerate(self.answers):
            for at in range(self._sent[index], len(answer.pieces)):
                yield from self._piece(index, answer, at)
            self._sent[index] = len(answer.pieces)
        if self._closed:
            yield from self._last()

    def adapt(self, response: HttpResponse) -> HttpResponse:
        """Give a response, or an error, the form that this request's clients read."""
        return response

    @abstractmethod
    def _whole(self) -> HttpResponse:
        """Return the response of a request that is not streamed."""

    @abstractmethod
    def _error(self, error: RequestError) -> dict[str, Any]:
        """Return the JSON of an error."""

    @abstractmethod
    def _piece(self, index: int, answer: Answer, at: int) -> Iterator[bytes]:
        """Yield the events of the token `at` of an answer."""

    def _first(self) -> Iterator[bytes]:
        yield from ()

    def _last(self) -> Iterator[bytes]:
        yield from ()


def event(value: Any) -> bytes:
    """Return a value as a server-sent event, in ASCII.

    A line break ends an event. JSON always escapes the three of the standard; clients that split
    lines as `str.splitlines` does (httpx, huggingface_hub, requests) also end one at U+0085, U+2028
    and U+2029. Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
    """
    return b"data: " + json.dumps(value, allow_nan=False).encode("ascii") + b"\n\n"
