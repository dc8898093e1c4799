"""Checks that both services share, and how an error becomes a response."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from torchscript_bundle.serving.api.http import (
    MAX_RESPONSE_SIZE,
    HttpResponse,
    json_response,
    retry_headers,
)
from torchscript_bundle.serving.api.protocols.call import Call
from torchscript_bundle.serving.errors import RequestError, log_failure

P = ParamSpec("P")
T = TypeVar("T")


def no_explanations() -> RequestError:
    """Make the error for an explanation from an archive that holds none."""
    return RequestError(
        404, "this archive holds no explanations; POST the text to /predictions instead"
    )


def check_items(call: Call, most: int) -> None:
    """Raise RequestError unless there are from 1 to `most` items."""
    if not call.items:
        raise RequestError(422, "the list is empty; send at least one text")
    check_count(len(call.items), most)


def check_count(count: int, most: int) -> None:
    """Raise RequestError if a request has more than `most` texts."""
    if count > most:
        raise RequestError(413, f"{count} texts in one request; send at most {most} at a time")


@contextmanager
def naming_item(at: int, call: Call) -> Iterator[None]:
    """Name the item of a list in an error about it."""
    try:
        yield
    except RequestError as error:
        where = f"item {at} of the list: " if call.listed else ""
        raise RequestError(
            error.status, where + error.message, retry_after=error.retry_after
        ) from None


def guard(step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | HttpResponse:
    """Run a step; an error becomes the response."""
    try:
        return step(*args, **kwargs)
    except RequestError as error:
        return refusal(error)
    except Exception as error:
        log_failure("answering a request", error)
        return json_response(500, {"error": "the server could not answer this request"})


def refusal(error: RequestError) -> HttpResponse:
    """Make the response to a refused request."""
    return json_response(error.status, {"error": error.message}, retry_headers(error))


def bounded(response: HttpResponse) -> HttpResponse:
    """Refuse a response so large that TorchServe would end the worker."""
    size = len(response.body)
    if size > MAX_RESPONSE_SIZE:
        raise RequestError(
            413,
            f"the answer has {size} bytes, and at most {MAX_RESPONSE_SIZE} can be sent; send fewer "
            "or shorter texts, or ask for less about each",
        )
    return response
