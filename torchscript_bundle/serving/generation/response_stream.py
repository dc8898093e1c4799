"""A request that is being answered, and how its answers are sent: at the end, or as they come."""

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

#: What clients of server-sent events pass over, so that a lost connection is noticed all the same.
NOTHING_YET = b":\n\n"


class Exchange(ABC):
    """One request and the answers that are written to it.

    Args:
        request: as it came.
        answers: one for each of its texts.
        streamed: whether the client gets events.
    """

    def __init__(self, request: HttpRequest, answers: Sequence[Answer], streamed: bool) -> None:
        self.request = request
        self.answers = answers
        self.streamed = streamed
        self._sent = [0] * len(answers)
        self._closed = False
        self._begun = False

    @property
    def done(self) -> bool:
        """Whether all of its answers are written, or one has failed."""
        return self._failure is not None or all(answer.done for answer in self.answers)

    @property
    def _failure(self) -> RequestError | None:
        """What went wrong, of a list with the number of the text."""
        for at, answer in enumerate(self.answers):
            if (error := answer.error) is not None:
                # What the server has no time for is no text's fault.
                alone = len(self.answers) == 1 or error.status == 503
                where = "" if alone else f"item {at} of the list: "
                return RequestError(
                    error.status, where + error.message, retry_after=error.retry_after
                )
        return None

    def response(self) -> HttpResponse:
        """The whole answer, once it is done.

        Raises:
            RequestError: it is too long to be sent.
        """
        if (error := self._failure) is not None:
            return json_response(error.status, self._error(error), retry_headers(error))
        return self._whole()

    def events(self) -> bytes:
        """Server-sent events of what was written since the last call, the last of them included."""
        if self._closed:
            return b""
        self._closed = self.done
        if (failure := self._failure) is not None:
            return event(self._error(failure))
        try:
            made = b"".join(self._events())
        except Exception as error:  # of this request alone: its neighbours share the call
            log_failure("telling what was written", error)
            self._closed = True
            self.answers[0].fail(FAILED)
            return event(self._error(FAILED))
        if not made and any(answer.pieces for answer in self.answers):
            return NOTHING_YET
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

    @abstractmethod
    def _whole(self) -> HttpResponse:
        """The answer of a request that is not streamed."""

    @abstractmethod
    def _error(self, error: RequestError) -> dict[str, Any]:
        """What is said where the server has failed."""

    @abstractmethod
    def _piece(self, index: int, answer: Answer, at: int) -> Iterator[bytes]:
        """Events of the token `at` of an answer."""

    def _first(self) -> Iterator[bytes]:
        """Events before any token."""
        yield from ()

    def _last(self) -> Iterator[bytes]:
        """Events after all tokens."""
        yield from ()


def event(value: Any) -> bytes:
    """Return a value as a server-sent event, in ASCII.

    A line break ends an event. The standard has three, which JSON always escapes; clients that cut
    lines as `str.splitlines` does (httpx, huggingface_hub, requests) also end one at U+0085, U+2028
    and U+2029, so these must be escaped too.

    Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
    """
    return b"data: " + json.dumps(value, allow_nan=False).encode("ascii") + b"\n\n"
