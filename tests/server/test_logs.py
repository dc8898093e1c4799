"""What is read of TorchServe's logs."""

from __future__ import annotations

import json

from torchscript_bundle.server.logs import worker_error

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


def test_it_is_the_same_of_a_log_in_json() -> None:
    said = [line.split(" - ", 1)[1] for line in LOG.splitlines()]
    lines = [*said[:1], "\n".join(said[1:7]), *said[7:]]
    log = "\n".join(json.dumps({"level": "INFO", "message": line}) for line in lines)
    assert worker_error(log) == worker_error(LOG)


def test_a_workers_error_is_its_exception_with_the_whole_message() -> None:
    assert worker_error(LOG) == (
        "RuntimeError: it failed.\n  at a place - with a dash\nbecause of this"
    )
