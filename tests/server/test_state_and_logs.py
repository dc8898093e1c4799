"""What the server reads and writes, without starting it."""

from __future__ import annotations

import json
from pathlib import Path

from torchscript_bundle.server import STATE_KEYS, Server, _worker_error

LOG = """\
2026-01-01T00:00:00,000 [INFO ] W-9000-x_1.0-stdout MODEL_LOG - Torch worker started.
2026-01-01T00:00:00,000 [INFO ] W-9000-x_1.0-stdout MODEL_LOG - Traceback (most recent call last):
2026-01-01T00:00:00,000 [INFO ] W-9000-x_1.0-stdout MODEL_LOG -   File "a.py", line 1, in f
2026-01-01T00:00:00,000 [INFO ] W-9000-x_1.0-stdout MODEL_LOG -     run()
2026-01-01T00:00:00,000 [INFO ] W-9000-x_1.0-stdout MODEL_LOG - RuntimeError: it failed.
2026-01-01T00:00:00,000 [INFO ] W-9000-x_1.0-stdout MODEL_LOG -   at a place - with a dash
2026-01-01T00:00:00,000 [INFO ] W-9000-x_1.0-stdout MODEL_LOG - because of this
2026-01-01T00:00:00,000 [INFO ] W-9000-x_1.0-stdout MODEL_LOG - s_name_part0=/tmp/.ts.sock, pid=2
2026-01-01T00:00:00,000 [INFO ] W-9000-x_1.0-stdout MODEL_LOG - Torch worker started.
"""


def test_a_workers_error_is_its_exception_with_the_whole_message() -> None:
    assert _worker_error(LOG) == (
        "RuntimeError: it failed.\n  at a place - with a dash\nbecause of this"
    )


def test_the_last_word_on_a_property_counts(tmp_path: Path) -> None:
    (tmp_path / "config.properties").write_text("# a=0\na=1\nb = 2\n\na=3\n")
    assert Server(tmp_path, tmp_path).properties() == {"a": "3", "b": "2"}


def test_plan_is_told_in_words(tmp_path: Path) -> None:
    state = dict.fromkeys(STATE_KEYS, "")
    planned = {"workers": 2, "threads": 3, "cores": 6, "optimize_for": "throughput"}
    state |= {**planned, "batch_size": 32, "max_batch_delay": 10}
    (tmp_path / "state.json").write_text(json.dumps(state))
    assert Server(tmp_path, tmp_path).plan() == (
        "2 worker(s) with 3 thread(s) each on 6 core(s), for throughput: up to 32 requests a call, "
        "which wait 10 ms"
    )
