"""Metrics of the supervisor for Prometheus, and TorchServe's own in the same scrape."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from torchscript_bundle.supervisor.lane import Lane

PREFIX = "torchscript_bundle_"
#: From a small model on a GPU to a long text that is written (seconds).
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
#: The model of requests that name none of those that are served.
UNKNOWN = ""


class Metrics:
    """Counts what the supervisor sees; `lanes` are asked at each scrape."""

    def __init__(self, lanes: Callable[[], Iterable[Lane]], ready: Callable[[str], bool]) -> None:
        self.registry = CollectorRegistry()
        counter = partial(Counter, registry=self.registry)
        histogram = partial(Histogram, buckets=SECONDS, registry=self.registry)
        by_model = ["model"]
        self.requests = counter(
            f"{PREFIX}requests", "Requests that were answered", ["model", "status"]
        )
        self.seconds = histogram(
            f"{PREFIX}request_seconds",
            "From a request's arrival to the end of its answer",
            ["model", "status"],
        )
        self.queue = histogram(
            f"{PREFIX}queue_seconds",
            "From a request's arrival to its turn at TorchServe",
            by_model,
        )
        self.refused = counter(
            f"{PREFIX}refused", "Requests not given to TorchServe", ["model", "reason"]
        )
        self.worker_restarts = counter(
            f"{PREFIX}worker_restarts", "Workers that TorchServe replaced", by_model
        )
        self.torchserve_restarts = counter(
            f"{PREFIX}torchserve_restarts", "TorchServes started again", by_model
        )
        self.registry.register(_State(lanes, ready, time.time()))

    def add(self, model: str) -> None:
        """Show a model's counts before there is anything to count: a rate needs their 0."""
        self.queue.labels(model)
        self.worker_restarts.labels(model)
        self.torchserve_restarts.labels(model)

    def answered(self, model: str, status: str, seconds: float) -> None:
        """Count an answer."""
        self.requests.labels(model, status).inc()
        self.seconds.labels(model, status).observe(seconds)

    def text(self, scraped: Mapping[str, str]) -> bytes:
        """Return all metrics as text; `scraped` has TorchServe's own by model."""
        combined = CollectorRegistry()
        combined.register(_TorchServes(scraped))
        return generate_latest(self.registry) + generate_latest(combined)


class _State(Collector):
    """The lengths of queues, and which models answer, at the moment of a scrape."""

    def __init__(
        self, lanes: Callable[[], Iterable[Lane]], ready: Callable[[str], bool], started: float
    ) -> None:
        self._lanes, self._ready, self._started = lanes, ready, started

    def collect(self) -> Iterator[Metric]:
        gauges: dict[str, tuple[str, Callable[[Lane], float]]] = {
            "pending_requests": ("Requests that wait for their turn", lambda lane: lane.waiting),
            "running_requests": ("Requests at TorchServe", lambda lane: len(lane.running)),
            "ready": ("Whether the model answered", lambda lane: self._ready(lane.model)),
        }
        for name, (what, value) in gauges.items():
            metric = Metric(PREFIX + name, what, "gauge")
            for lane in self._lanes():
                metric.add_sample(PREFIX + name, {"model": lane.model}, float(value(lane)))
            yield metric
        up = Metric(f"{PREFIX}up_seconds", "Age of the supervisor", "gauge")
        up.add_sample(f"{PREFIX}up_seconds", {}, time.time() - self._started)
        yield up


class _TorchServes(Collector):
    """TorchServe's metrics, each sample labelled with the model whose TorchServe it is of."""

    def __init__(self, scraped: Mapping[str, str]) -> None:
        self._scraped = scraped

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for model, text in self._scraped.items():
            # A counter would get the suffix _total, which not all of TorchServe's have.
            for family in text_string_to_metric_families(text.replace(" counter\n", " untyped\n")):
                merged = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                for sample in family.samples:
                    labels = {**sample.labels, "model": model}
                    merged.add_sample(sample.name, labels, sample.value)
        yield from families.values()


__all__ = ["UNKNOWN", "Metrics"]
