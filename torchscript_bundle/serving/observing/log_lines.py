"""The lines of a worker's log: for people, or JSON, with the ids of the requests they are about.

TorchServe's Java process writes each line that a worker prints into its own log, as
server/log4j2.xml says; it takes the members of a JSON line as they are.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from torchscript_bundle.serving.observing.caller import Caller

logger = logging.getLogger(__name__)

#: Environment variables: "json", or anything else; and the least level of our own lines.
LOG_FORMAT, LOG_LEVEL = "LOG_FORMAT", "LOG_LEVEL"
#: How a line begins that is a metric.
METRIC = "[METRICS]"
#: The logger above all of this package.
PACKAGE = __name__.partition(".")[0]

_about: ContextVar[Sequence[Caller]] = ContextVar("about", default=())


class About:
    """Names requests in all lines that are logged within it."""

    __slots__ = ("_before", "_callers")

    def __init__(self, callers: Sequence[Caller]) -> None:
        self._callers = callers

    def __enter__(self) -> None:
        self._before = _about.set(self._callers)

    def __exit__(self, *_: object) -> None:
        _about.reset(self._before)


def _metric(record: logging.LogRecord) -> str | None:
    """Return a line that counts, which TorchServe parses; None for any other.

    It ends with the ids of requests, which a client may have begun by anything.
    """
    line = record.getMessage()
    return "".join(filter(str.isprintable, line)) if line.startswith(METRIC) else None


class Lines(logging.Formatter):
    """Writes the ids behind a line, and the places of an exception below it."""

    def format(self, record: logging.LogRecord) -> str:
        if (metric := _metric(record)) is not None:
            return metric
        first, line_break, rest = super().format(record).partition("\n")
        requests = [each.ids for each in _about.get()]
        named = " ".join(f"{name}={value}" for ids in requests for name, value in ids.items())
        return f"{first} [{named}]{line_break}{rest}" if named else first + line_break + rest


class JsonLines(logging.Formatter):
    """Writes an object a line, in ASCII; one request's ids are members of it.

    `timed` lines say when, in the form that server/log4j2.xml gives to a worker's.
    """

    def __init__(self, *, timed: bool = False) -> None:
        super().__init__()
        self._timed = timed

    def format(self, record: logging.LogRecord) -> str:
        if (metric := _metric(record)) is not None:
            return metric
        time = datetime.fromtimestamp(record.created).astimezone().isoformat("T", "milliseconds")
        line: dict[str, Any] = {
            **({"time": time} if self._timed else {}),
            "level": record.levelname,
            "logger": record.name,
            "message": super().format(record),
        }
        requests = [each.ids for each in _about.get()]
        if len(requests) == 1:
            line |= requests[0]
        elif requests:
            line["requests"] = requests
        return json.dumps(line)


def set_up(*, timed: bool = False) -> None:
    """Give the process's lines the form and the level that the environment asks for.

    `timed` is for a process whose lines no TorchServe stamps with the time.
    """
    text = "%(asctime)s %(levelname)s %(message)s" if timed else None
    json_asked = os.environ.get(LOG_FORMAT) == "json"
    form = JsonLines(timed=timed) if json_asked else Lines(text)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(form)
    level = os.environ.get(LOG_LEVEL, "").upper()
    if level in logging.getLevelNamesMapping():
        logging.getLogger(PACKAGE).setLevel(level)
    elif level:
        known = "debug, info, warning or error"
        logger.warning("%s is none of %s; it is info", LOG_LEVEL, known)
