"""Spans by OpenTelemetry, in workers whose environment asks for them and that have its packages.

The packages are the extra `tracing`; nothing is imported of them unless OpenTelemetry's own
variables name a receiver (OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torchscript_bundle.serving.observing.caller import TRACEPARENT, Caller

logger = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
DISABLED = "OTEL_SDK_DISABLED"
#: The service's name where OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES have none.
SERVICE = "torchscript-bundle"
NANOSECONDS = 1_000_000_000

_current: Spans | None = None


def current() -> Spans | None:
    """Return what writes spans; None where nothing is traced."""
    return _current


def start(model: str) -> None:
    """Trace the requests of this process from now on, if its environment asks for it."""
    global _current
    wanted = any(os.environ.get(name) for name in ENDPOINTS)
    if not wanted or os.environ.get(DISABLED, "").lower() == "true":
        return
    try:
        _current = Spans(model)
    except ImportError as error:
        logger.warning(
            "%s is set, but %s is not installed, so nothing is traced; pip install "
            "torchscript-bundle[tracing]",
            " or ".join(ENDPOINTS),
            error.name,
        )


class Spans:
    """Makes the spans of requests and sends them, a few seconds later, in a thread of its own."""

    def __init__(self, model: str) -> None:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._trace = trace
        self._propagator = TraceContextTextMapPropagator()
        named = Resource({SERVICE_NAME: SERVICE}).merge(OTELResourceDetector().detect())
        self.provider = TracerProvider(resource=Resource.create().merge(named))
        self.provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self.provider.get_tracer(__name__)
        self._model = model

    def begin(self, caller: Caller) -> None:
        """Begin a request's span, where its proxy had it, and tell how long it waited."""
        parent = self._propagator.extract({TRACEPARENT: caller.traceparent})
        came = caller.received if caller.arrived is None else caller.arrived
        caller.span = self._tracer.start_span(
            "request",
            context=parent,
            kind=self._trace.SpanKind.SERVER,
            start_time=int(came * NANOSECONDS),
            attributes={"model": self._model, "request_id": caller.request_id},
        )
        if caller.arrived is not None:
            within = self._trace.set_span_in_context(caller.span)
            waited = self._tracer.start_span(
                "queue", context=within, start_time=int(came * NANOSECONDS)
            )
            waited.end(int(caller.received * NANOSECONDS))

    def end(self, caller: Caller, status: int) -> None:
        """End a request's span."""
        span, caller.span = caller.span, None
        if span is not None:
            span.set_attribute("http.response.status_code", status)
            if status >= 500:
                span.set_status(self._trace.StatusCode.ERROR)
            span.end()

    @contextmanager
    def span(
        self, name: str, callers: Sequence[Caller], counts: Mapping[str, int]
    ) -> Iterator[None]:
        """Run a step in a span: a child of the first request, linked to each if they are more.

        Exceptions are not recorded: their messages may hold a text.
        """
        traced: list[Any] = [each.span for each in callers if each.span is not None]
        sampled = [span for span in traced if span.is_recording()]
        if not sampled:
            yield
            return
        links = [self._trace.Link(span.get_span_context()) for span in sampled]
        span = self._tracer.start_span(
            name,
            context=self._trace.set_span_in_context(sampled[0]),
            links=links if len(links) > 1 else (),
            attributes=dict(counts),
        )
        try:
            yield
        finally:
            span.end()
