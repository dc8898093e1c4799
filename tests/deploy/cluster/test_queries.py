"""Every PromQL of deploy/ finds what it asks for, on a Prometheus that scrapes live servers.

`make check-deploy METRICS=http://127.0.0.1:8090/metrics` asks a running server instead of an
exporter of the test's own. It must have answered requests and refused a wrong key before.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import yaml

from tests.deploy.cluster.exporter import WAIT_IN_TORCHSERVE, Exporter
from tests.deploy.cluster.prometheus import Prometheus, QueryError
from tests.deploy.cluster.tools import CHART, DEPLOY, of_kind, render
from tests.integration.helpers import free_ports

#: Addresses of running servers, set by `make check-deploy METRICS=...`.
URLS = os.environ.get("METRICS", "").split()
#: Seconds of waiting at the gates of two replicas.
WAITS = (0.1, 0.3)
VARIABLES = {"$__rate_interval": "1m", "$namespace": ".*", "$model": ".*"}


def panels() -> dict[str, str]:
    """The dashboard's queries, by panel and letter, with its variables filled in."""
    dashboard = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    found = {}
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            query = target["expr"]
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            assert "$" not in query, query
            found[f"{panel['title']}: {target['refId']}"] = query
    return found


def alerts() -> dict[str, str]:
    """The alerts' expressions, by name."""
    (group,) = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())["groups"]
    return {rule["alert"]: rule["expr"] for rule in group["rules"]}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One that scrapes the servers of METRICS, or two replicas of the test's own."""
    folder = tmp_path_factory.mktemp("prometheus")
    exporters = []
    if not URLS:
        exporters = [Exporter(wait_seconds=seconds) for seconds in WAITS]
    targets = [urlsplit(url).netloc for url in URLS] or [each.target for each in exporters]
    try:
        server = Prometheus(folder, targets, free_ports().inference)
        try:
            yield server
        finally:
            server.close()
    finally:
        for exporter in exporters:
            exporter.close()


@pytest.mark.parametrize("panel", panels())
def test_a_panel_shows_something(panel: str, prometheus: Prometheus) -> None:
    for sample in prometheus.query(panels()[panel]):
        assert math.isfinite(float(sample["value"][1])), sample


@pytest.mark.parametrize("alert", alerts())
def test_an_alert_asks_for_what_there_is(alert: str, prometheus: Prometheus) -> None:
    prometheus.check_selectors(alerts()[alert])


def adapted(query: str) -> str:
    """Fill in a template of prometheus-adapter for the pods of a namespace."""
    query = query.replace("<<.LabelMatchers>>", 'namespace="default",pod=~"reviews-predictor-.+"')
    return query.replace("<<.GroupBy>>", "pod")


def adapter_rule() -> dict[str, str]:
    values = yaml.safe_load((DEPLOY / "prometheus" / "adapter-values.yaml").read_text())
    (rule,) = values["rules"]["custom"]
    return dict(rule)


def waits(samples: list[dict]) -> list[float]:
    return sorted(float(sample["value"][1]) for sample in samples)


def test_the_autoscaler_gets_a_wait_of_each_pod(prometheus: Prometheus) -> None:
    rule = adapter_rule()
    values = {"keys": {"none": True}, "autoscaling": {"enabled": True}}
    (metric,) = of_kind(render(values), "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    assert prometheus.query(rule["seriesQuery"])
    samples = prometheus.query(adapted(rule["metricsQuery"]))
    assert all(sample["metric"].keys() == {"pod"} for sample in samples)
    if not URLS:
        expected = [seconds + WAIT_IN_TORCHSERVE for seconds in WAITS]
        assert waits(samples) == pytest.approx(expected, rel=0.1)


def test_an_idle_pod_waits_no_seconds(prometheus: Prometheus) -> None:
    """A division by 0 requests would keep the autoscaler from shrinking an idle fleet."""
    query = re.sub(r"rate\((\w+)\{", r"0 * rate(\1{", adapted(adapter_rule()["metricsQuery"]))
    assert set(waits(prometheus.query(query))) == {0}


def kserve_metric() -> dict:
    service = yaml.safe_load((DEPLOY / "kserve" / "inferenceservice.yaml").read_text())
    (metric,) = service["spec"]["predictor"]["autoScaling"]["metrics"]
    return dict(metric["external"])


def test_kserve_gets_the_mean_wait_times_the_replicas(prometheus: Prometheus) -> None:
    samples = prometheus.query(kserve_metric()["metric"]["query"])
    if not URLS:
        mean = sum(WAITS) / len(WAITS) + WAIT_IN_TORCHSERVE
        assert waits(samples) == pytest.approx([mean * len(WAITS)], rel=0.1)


def test_both_scale_by_the_same_wait() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    target = kserve_metric()["target"]["value"]
    assert float(target) == values["autoscaling"]["queueSeconds"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("sum(rate(torchscript_bundle_request_total[1m]))", "finds nothing"),
        ('rate(torchscript_bundle_queue_seconds_sum{model_name="reviews"}[1m])', "finds nothing"),
        ("rate(torchscript_bundle_queue_seconds_sum)", "expected type range vector"),
        ("sum by (model (up)", "parse error"),
    ],
)
def test_a_wrong_query_is_found(wrong: str, says: str, prometheus: Prometheus) -> None:
    with pytest.raises(QueryError, match=says):
        prometheus.query(wrong)


def test_a_wrong_alert_is_found(prometheus: Prometheus) -> None:
    with pytest.raises(QueryError, match="torchscript_bundle_redy: finds nothing"):
        prometheus.check_selectors("max by (model) (torchscript_bundle_redy) == 0")
