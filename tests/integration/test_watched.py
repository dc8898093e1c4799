"""What the queries of deploy/ ask TorchServe for is what it has, by model."""

from __future__ import annotations

import re

from tests.integration.conftest import Site
from torchscript_bundle.server import DIRECT, ROOT

ASKING = (
    *("prometheus/alerts.yaml", "prometheus/adapter-values.yaml"),
    *("grafana/dashboard.json", "kserve/inferenceservice.yaml"),
)


def test_torchserve_has_the_metrics_that_are_asked_for(tiny_site: Site) -> None:
    queries = "".join((ROOT / "deploy" / name).read_text() for name in ASKING)
    names = set(re.findall(r"\bts_(?:inference|queue)\w+", queries))
    assert len(names) == 3
    assert tiny_site.server.predict(b"one request, so that it counts").status == 200
    with DIRECT.open(f"http://127.0.0.1:{tiny_site.port('metrics')}/metrics") as answer:
        exposed = answer.read().decode()
    model = tiny_site.server.model
    for name in names:
        assert re.search(rf'^{name}{{[^}}]*model_name="{model}"', exposed, re.MULTILINE), name
