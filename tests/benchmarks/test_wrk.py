"""What wrk prints is read, and nothing that went wrong counts as an answer."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks.load.wrk import LoadError, read_output, run_wrk

REPORT = """Running 2s test @ http://127.0.0.1:8080/predictions/bench
  1 threads and 4 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
Requests/sec:     20.00

{"requests": 40, "seconds": 2.0, "not_200": 0, "lost": 0, "ms": {"mean": 200.5, "p50": 199.0, \
"p90": 210.0, "p99": 220.0, "max": 221.0}}
"""

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


def test_the_last_line_is_read() -> None:
    load = read_output(REPORT)
    assert load.rate == 20.0
    assert load.ms["p99"] == 220.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"not_200": 0', '"not_200": 3'), "3 were not 200"),
        (('"lost": 0', '"lost": 2'), "2 requests were lost"),
        (('"requests": 40', '"requests": 0'), "no answer within 2 seconds"),
        (("{", "<"), "printed no result"),
        ((REPORT, ""), "printed no result"),
    ],
)
def test_what_went_wrong_is_told(change: tuple[str, str], message: str) -> None:
    with pytest.raises(LoadError, match=message):
        read_output(REPORT.replace(*change))


class Site:
    """A server that keeps the texts that it is sent; some get a 503."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.refused: str | None = None


@pytest.fixture
def site() -> Iterator[tuple[Site, str]]:
    kept = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            text = json.loads(body)["text"]
            kept.texts.append(text)
            self.send_response(503 if text == kept.refused else 200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield kept, f"http://127.0.0.1:{server.server_port}/predict"
    server.shutdown()
    server.server_close()


LINES = ['He said "fine".', "A back\\slash,\ttoo", "Größe 5"]


@needs_wrk
def test_lines_are_posted_in_turn(site: tuple[Site, str], tmp_path: Path) -> None:
    kept, url = site
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    load = run_wrk(url, {"X-Key": "k"}, path, 1, 3)
    assert load.requests >= 6
    # wrk makes one request for itself first, to look at it.
    turn = [*LINES[1:], LINES[0]]
    assert kept.texts[:6] == turn * 2


@needs_wrk
def test_an_answer_that_is_not_200_is_no_answer(site: tuple[Site, str], tmp_path: Path) -> None:
    kept, url = site
    kept.refused = LINES[1]
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    with pytest.raises(LoadError, match=re.compile(r"[1-9]\d* were not 200")):
        run_wrk(url, {}, path, 1, 3)
