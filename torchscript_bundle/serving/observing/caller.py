"""What a request's headers say about it: its id, its trace, and until when it is wanted."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torchscript_bundle.serving.errors import RequestError

REQUEST_ID, TRACEPARENT = "x-request-id", "traceparent"
DEADLINE, STARTED = "x-request-deadline", "x-request-start"

#: Ids are written to logs: short, ASCII, without spaces, so that none can hold a text or a line.
ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
#: https://www.w3.org/TR/trace-context/#traceparent-header; ids of zeros alone are invalid.
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
#: Unix milliseconds; fifteen digits reach beyond the year 30000.
_MILLISECONDS = re.compile(r"[0-9]{1,15}")
#: As nginx's `t=${msec}` has it: unix seconds with milliseconds.
_STARTED = re.compile(r"t=([0-9]{1,12}(?:\.[0-9]{1,6})?)")
#: A start that lies further back is another clock's (seconds).
LONGEST_WAIT = 3600.0

MALFORMED = (
    "X-Request-Deadline must be unix time in milliseconds, such as 1767225600000; send that, or "
    "leave it out"
)
OVERDUE = (
    "the deadline of this request (X-Request-Deadline) had passed before it was computed; send it "
    "again with a later one"
)


@dataclass(eq=False)
class Caller:
    """Who asks, for logs, traces and the order of work.

    Attributes:
        request_id: the client's or the proxy's, where it is a sound one; else TorchServe's, which
            its response has as `x-request-id`.
        traceparent: W3C's; empty where there is none, or a malformed one.
        deadline: unix milliseconds, as they were sent; empty where there is none.
        arrived: when a proxy had the request (unix seconds), if it told.
        received: when the worker had it.
        span: that of the request, while it is traced.
    """

    request_id: str = ""
    traceparent: str = ""
    deadline: str = ""
    arrived: float | None = None
    received: float = field(default_factory=time.time)
    span: Any = None

    @property
    def ids(self) -> dict[str, str]:
        """The ids of the request, by their names in a line of the log."""
        named = {"request_id": self.request_id, TRACEPARENT: self.traceparent}
        return {name: value for name, value in named.items() if value}

    @property
    def seconds_left(self) -> float:
        """The time until the deadline; infinite without one. RequestError: it is malformed."""
        if not self.deadline:
            return math.inf
        if not _MILLISECONDS.fullmatch(self.deadline):
            raise RequestError(400, MALFORMED)
        return int(self.deadline) / 1000 - time.time()

    def check_deadline(self) -> None:
        """Raise RequestError where the deadline is past (504), or malformed (400)."""
        if self.seconds_left < 0:
            raise RequestError(504, OVERDUE)


def read_caller(headers: Mapping[str, str], own_id: str) -> Caller:
    """Read headers, whose names are in lower case; `own_id` is the server's id of the request."""
    sent = headers.get(REQUEST_ID, "")
    trace = headers.get(TRACEPARENT, "")
    now = time.time()
    return Caller(
        request_id=sent if ID.fullmatch(sent) else own_id if ID.fullmatch(own_id) else "",
        traceparent=trace if _TRACEPARENT.fullmatch(trace) else "",
        deadline=headers.get(DEADLINE, ""),
        arrived=_read_start(headers.get(STARTED, ""), now),
        received=now,
    )


def _read_start(value: str, now: float) -> float | None:
    found = _STARTED.fullmatch(value)
    if found is None:
        return None
    started = float(found[1])
    return started if now - LONGEST_WAIT < started <= now else None
