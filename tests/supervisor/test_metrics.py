"""Names and labels of the metrics are those that the queries of deploy/ ask for."""

from __future__ import annotations

from torchscript_bundle.supervisor.lane import Lane
from torchscript_bundle.supervisor.metrics import Metrics

TORCHSERVE = """\
# HELP ts_inference_requests_total Total number of inference requests.
# TYPE ts_inference_requests_total counter
ts_inference_requests_total{model_name="reviews",model_version="default",hostname="vm",} 4.0
# HELP ts_queue_latency_microseconds Cumulative queue duration in microseconds
# TYPE ts_queue_latency_microseconds counter
ts_queue_latency_microseconds{model_name="reviews",model_version="default",hostname="vm",} 29584.7
"""


def text(metrics: Metrics, **scraped: str) -> list[str]:
    return metrics.text(scraped).decode().splitlines()


def test_torchserves_metrics_keep_their_names_and_get_a_model() -> None:
    lines = text(Metrics(list, bool), reviews=TORCHSERVE)
    labels = '{hostname="vm",model="reviews",model_name="reviews",model_version="default"}'
    assert f"ts_inference_requests_total{labels} 4.0" in lines
    assert f"ts_queue_latency_microseconds{labels} 29584.7" in lines


def test_a_model_has_its_counts_before_its_first_request() -> None:
    metrics = Metrics(lambda: [Lane("reviews")], lambda _: True)
    metrics.add("reviews")
    lines = text(metrics)
    for name in ("queue_seconds_sum", "worker_restarts_total", "torchserve_restarts_total"):
        assert f'torchscript_bundle_{name}{{model="reviews"}} 0.0' in lines
