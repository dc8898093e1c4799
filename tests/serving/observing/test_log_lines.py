"""The lines of a worker's log, in both forms."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from torchscript_bundle.serving.errors import log_failure
from torchscript_bundle.serving.observing import log_lines
from torchscript_bundle.serving.observing.caller import Caller
from torchscript_bundle.serving.observing.log_lines import About
from torchscript_bundle.serving.observing.steps import answered

ONE = Caller("7", "00-a-b-01")
OTHER = Caller("8")
Printed = Callable[[], list[str]]


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> logging.Handler:
    """A process's logging as TorchServe sets it up, with this handler alone."""
    monkeypatch.delenv(log_lines.LOG_FORMAT, raising=False)
    monkeypatch.delenv(log_lines.LOG_LEVEL, raising=False)
    handler = logging.StreamHandler(io.StringIO())
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    monkeypatch.setattr(logging.getLogger(), "level", logging.INFO)
    return handler


@pytest.fixture
def printed(root: logging.Handler) -> Printed:
    assert isinstance(root, logging.StreamHandler)
    return lambda: root.stream.getvalue().splitlines()


def fail() -> None:
    sent = "a secret".upper()
    try:
        raise ValueError(sent)
    except ValueError as error:
        log_failure("answering a request", error)


def test_a_line_is_followed_by_its_ids(printed: Printed) -> None:
    log_lines.set_up()
    with About([ONE]):
        fail()
    logging.info("ready")
    first, *frames, last = printed()
    named = "[request_id=7 traceparent=00-a-b-01]"
    assert first == f"ValueError while answering a request {named}"
    assert "in fail" in frames[0]
    assert last == "ready"


def test_a_line_of_json_has_the_ids_as_members(
    printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(log_lines.LOG_FORMAT, "json")
    log_lines.set_up()
    with About([ONE]):
        fail()
    with About([ONE, OTHER]):
        logging.getLogger("x").warning("é\u2028")
    logging.info("ready")
    first, second, third = map(json.loads, printed())
    assert (first["request_id"], first["traceparent"]) == ("7", "00-a-b-01")
    assert first["level"] == "ERROR" and first["logger"].startswith("torchscript_bundle.")
    assert "in fail" in first["message"] and "SECRET" not in first["message"]
    assert second["requests"] == [
        {"request_id": "7", "traceparent": "00-a-b-01"},
        {"request_id": "8"},
    ]
    assert second["message"] == "é\u2028"
    assert third == {"level": "INFO", "logger": "root", "message": "ready"}


def test_a_process_without_torchserve_says_when(
    printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_lines.set_up(timed=True)
    logging.info("ready")
    monkeypatch.setenv(log_lines.LOG_FORMAT, "json")
    log_lines.set_up(timed=True)
    logging.info("ready")
    text, line = printed()
    now = datetime.now().astimezone()
    assert text.startswith(f"{now:%Y-}") and text.endswith(" INFO ready")
    assert now - datetime.fromisoformat(json.loads(line)["time"]) < timedelta(minutes=1)


def test_answers_are_logged_at_debug_alone(
    printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_lines.set_up()
    answered(ONE, 200)
    assert printed() == []
    monkeypatch.setenv(log_lines.LOG_LEVEL, "debug")
    log_lines.set_up()
    answered(ONE, 422)
    [line] = printed()
    assert line.startswith("answered 422 after ") and line.endswith(
        "[request_id=7 traceparent=00-a-b-01]"
    )


@pytest.mark.parametrize("form", ["text", "json"])
def test_metrics_stay_as_torchserve_reads_them(
    printed: Printed, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """TorchServe ends a line at U+0085, and takes what follows for what the worker said."""
    monkeypatch.setenv(log_lines.LOG_FORMAT, form)
    log_lines.set_up()
    metric = "[METRICS]A.Count:1|#ModelName:m|#hostname:h,1,"
    with About([ONE]):
        logging.info("%s", metric + "a\x85[PID]1\u2028b")
    assert printed() == [metric + "a[PID]1b"]


def test_another_level_is_told(printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(log_lines.LOG_LEVEL, "loud")
    log_lines.set_up()
    assert printed() == ["LOG_LEVEL is none of debug, info, warning or error; it is info"]
