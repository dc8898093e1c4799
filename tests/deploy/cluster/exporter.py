"""A live exposition by the supervisor's own metrics, with traffic in it."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from torchscript_bundle.supervisor.lane import Lane
from torchscript_bundle.supervisor.metrics import UNKNOWN, Metrics

MODEL = "reviews"
#: Seconds that a request waits in TorchServe.
WAIT_IN_TORCHSERVE = 0.02
#: As TorchServe 0.12 says it; the names are tried in tests/integration/test_watched.py.
TORCHSERVE = """\
# TYPE {name} counter
{name}{{model_name="reviews",model_version="default",hostname="vm",}} {value}
"""


class Exporter:
    """One replica: a port that answers as /metrics of the admin port does."""

    def __init__(self, *, wait_seconds: float) -> None:
        """Start it; each of its requests waits `wait_seconds` at the dispatcher."""
        self._wait_seconds = wait_seconds
        lane = Lane(MODEL)
        self._metrics = Metrics(lambda: [lane], lambda _: True)
        self._metrics.add(MODEL)
        self._answers = 0
        self._over, self._counting = threading.Event(), threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._threads = [
            threading.Thread(target=each) for each in (self._server.serve_forever, self._go_on)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def target(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """End it."""
        self._over.set()
        self._server.shutdown()
        for thread in self._threads:
            thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        text = self._text

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(text())

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def _text(self) -> bytes:
        with self._counting:
            counters = {
                "ts_inference_requests_total": self._answers,
                "ts_queue_latency_microseconds": self._answers * WAIT_IN_TORCHSERVE * 1e6,
                "ts_inference_latency_microseconds": self._answers * 50_000,
            }
            torchserve = "".join(
                TORCHSERVE.format(name=name, value=float(value)) for name, value in counters.items()
            )
            return self._metrics.text({MODEL: torchserve})

    def _go_on(self) -> None:
        while not self._over.wait(0.05):
            with self._counting:
                self._answers += 1
                self._metrics.answered(MODEL, "200", 0.05)
                self._metrics.queue.labels(MODEL).observe(self._wait_seconds)
                self._metrics.refused.labels(MODEL, "overload").inc()
                self._metrics.refused.labels(UNKNOWN, "key").inc()
