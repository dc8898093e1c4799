"""The seam at which the services tell what they do: the one place that logs and spans hang on."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from types import MappingProxyType

from torchscript_bundle.serving.observing import spans
from torchscript_bundle.serving.observing.caller import Caller
from torchscript_bundle.serving.observing.log_lines import About

logger = logging.getLogger(__name__)

#: What nginx logs as the status of a request whose client left before its answer.
GONE = 499
NOBODY: Mapping[int, Caller] = MappingProxyType({})
#: Whose the rows of a pass are, by the identity of each; empty where nothing is traced.
_owners: ContextVar[Mapping[int, Caller]] = ContextVar("owners", default=NOBODY)


def received(callers: Iterable[Caller]) -> None:
    """Begin the spans of requests that the worker has now."""
    if (tracer := spans.current()) is not None:
        for caller in callers:
            tracer.begin(caller)


def answered(caller: Caller, status: int) -> None:
    """Tell how a request ended: by a response with this status."""
    if logger.isEnabledFor(logging.DEBUG):
        with About([caller]):
            took = 1000 * (time.time() - caller.received)
            logger.debug("answered %d after %.1f ms in the worker", status, took)
    if (tracer := spans.current()) is not None:
        tracer.end(caller, status)


def step(name: str, callers: Sequence[Caller], **counts: int) -> AbstractContextManager[None]:
    """Return the context of a step of requests: its lines name them, and it is a span of theirs.

    `counts` are attributes of the span: numbers, so that no text can be among them.
    """
    tracer = spans.current()
    return About(callers) if tracer is None else _traced(tracer, name, callers, counts)


@contextmanager
def _traced(
    tracer: spans.Spans, name: str, callers: Sequence[Caller], counts: Mapping[str, int]
) -> Iterator[None]:
    with About(callers), tracer.span(name, callers, counts):
        yield


def computing(rows: Sequence[tuple[Caller, Sequence[Sized]]]) -> AbstractContextManager[None]:
    """Return the context of computing rows: `forward` then knows whose rows each pass has."""
    callers = [caller for caller, _ in rows]
    if spans.current() is None:
        return About(callers)
    return _owning(callers, {id(row): caller for caller, owned in rows for row in owned})


@contextmanager
def _owning(callers: Sequence[Caller], owners: Mapping[int, Caller]) -> Iterator[None]:
    before = _owners.set(owners)
    try:
        with About(callers):
            yield
    finally:
        _owners.reset(before)


def forward(batches: Iterable[Sequence[Sized]]) -> AbstractContextManager[None]:
    """Return the context of a pass of batches of rows."""
    owners = _owners.get()
    tracer = spans.current()
    if tracer is None or not owners:
        return nullcontext()
    rows = [row for batch in batches for row in batch]
    # A dictionary keeps the order, and each request once.
    callers = [*{owners[id(row)]: None for row in rows if id(row) in owners}]
    counts = {"rows": len(rows), "tokens": sum(map(len, rows))}
    return tracer.span("forward", callers, counts)
