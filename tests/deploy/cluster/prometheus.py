"""A Prometheus of the test's own, that scrapes live servers."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
import urllib.error
import urllib.parse
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.cluster.tools import find
from torchscript_bundle.server import DIRECT

START_SECONDS = 60
#: Rates need two samples of every series.
SAMPLES = 3
#: What a test cannot make happen on every server, such as a refusal for load.
RARE = re.compile(r'(?:, *)?\b(?:reason|status)(?:=~|!~|!=|=)"[^"]*"')
SELECTOR = re.compile(r"\b((?:torchscript_bundle|ts)_\w+|up)\b({[^}]*})?")


class QueryError(Exception):
    """A query is no PromQL, or finds nothing; the message has the query."""


class Prometheus:
    """Scrapes each target as the Prometheus operator would scrape a pod of its own."""

    def __init__(self, folder: Path, targets: list[str], port: int) -> None:
        """Start it, and wait until it has enough samples of every target."""
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [
                {
                    "job_name": "torchscript-bundle",
                    "static_configs": [
                        {
                            "targets": [target],
                            "labels": {
                                "namespace": "default",
                                "pod": f"reviews-predictor-{number}",
                            },
                        }
                        for number, target in enumerate(targets)
                    ],
                }
            ],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._url = f"http://127.0.0.1:{port}"
        self._log = folder / "prometheus.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    find("prometheus"),
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=log,
            )
        try:
            self._wait(len(targets))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop it."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()

    def query(self, query: str) -> list[dict[str, Any]]:
        """Return the samples of a query; QueryError if it is none, or has no samples."""
        parameters = urllib.parse.urlencode({"query": query})
        try:
            with DIRECT.open(f"{self._url}/api/v1/query?{parameters}", timeout=10) as answer:
                samples: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise QueryError(f"{query}: {error.read().decode()}") from error
        if not samples:
            raise QueryError(f"{query}: finds nothing")
        return samples

    def check_selectors(self, query: str) -> None:
        """Check a query that may find nothing: each of its metrics is there, with its labels."""
        selectors = SELECTOR.findall(query)
        assert selectors, query
        for name, labels in selectors:
            self.query(f"{name}{RARE.sub('', labels)}")
        self.query(f"absent({query}) or vector(1)")

    def _wait(self, targets: int) -> None:
        ends = time.monotonic() + START_SECONDS
        while time.monotonic() < ends and self._process.poll() is None:
            try:
                if len(self.query(f"sum_over_time(up[1m]) >= {SAMPLES}")) == targets:
                    return
            except (QueryError, OSError):
                pass
            time.sleep(0.2)
        raise AssertionError(f"not every target answered:\n{self._log.read_text()[-3000:]}")
