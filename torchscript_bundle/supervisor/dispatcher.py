"""What nginx asks the supervisor about each request: whether its key is right, and for its turn."""

from __future__ import annotations

import asyncio
import math
import os
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from aiohttp import web

from torchscript_bundle.serving.observing.caller import ID
from torchscript_bundle.supervisor.keys import Keys
from torchscript_bundle.supervisor.lane import Lane, RefusedError
from torchscript_bundle.supervisor.metrics import UNKNOWN, Metrics

#: Seconds that a request may take where it does not say.
DEFAULT_TIMEOUT = 60.0
MOST_TIMEOUT = 3600.0
TIMEOUT = "X-Request-Timeout"
#: Paths of TorchServe's inference port, with the model's name in them.
PATHS = re.compile(
    r"/(?:(?:predictions|explanations)/(?P<a>[^/:?]+)(?:/[^?]*)?"
    r"|v1/models/(?P<b>[^/:?]+)(?::(?:predict|explain))?"
    r"|v2/models/(?P<c>[^/:?]+)(?:/[^?]*)?)(?:\?.*)?",
    re.ASCII,
)
#: The supervisor's own address for those with a management key.
MANAGE = "/-/"


@dataclass
class Phase:
    """The phase of the server's end.

    Attributes:
        closing: connections end with the answer that is sent on them.
        refusing: new requests are refused as well.
        refused: when a request was refused last (`time.monotonic`).
    """

    closing: bool = False
    refusing: bool = False
    refused: float = 0.0


class Dispatcher:
    """Answers nginx."""

    def __init__(
        self,
        keys: Keys,
        lanes: Mapping[str, Lane],
        metrics: Metrics,
        phase: Phase,
        *,
        ready: Callable[[], str],
        reload: Callable[[], Awaitable[list[str]]],
    ) -> None:
        self._keys, self._lanes, self._metrics, self._phase = keys, lanes, metrics, phase
        self._ready, self._reload = ready, reload
        self.app = web.Application(client_max_size=1 << 16)
        self.app.router.add_route("*", "/key", self.check_key)
        self.app.router.add_route("*", "/turn", self.give_turn)
        self.app.router.add_get("/ping", self.tell_ready)
        self.app.router.add_get("/v2/health/{what:live|ready}", self.tell_ready)

    async def check_key(self, request: web.Request) -> web.Response:
        """Answer 204, or 401; 403 for a right key while connections should end."""
        path = request.headers.get("X-Path", "")
        scope = "management" if path.startswith(MANAGE) else "inference"
        # An ingress that lets clients in does not make operators of them.
        if self._keys.required or scope == "management":
            authorization = request.headers.get("Authorization", "")
            if self._keys.owner(authorization, scope) is None:
                self._metrics.refused.labels(UNKNOWN, "key").inc()
                return web.Response(status=401)
        return web.Response(status=403 if self._phase.closing else 204)

    async def give_turn(self, request: web.Request) -> web.Response:
        """Send a request to its TorchServe when its turn comes, or answer why it does not."""
        started = time.monotonic()
        path = request.headers.get("X-Path", "")
        if path.startswith(MANAGE):
            return await self._manage(path)
        lane = self._lanes.get(_model(path))
        model = lane.model if lane else UNKNOWN
        try:
            if lane is None:
                raise _Unknown(self._lanes)
            if self._phase.refusing:
                self._phase.refused = time.monotonic()
                raise RefusedError("draining", "the server is about to end; send it again", 1)
            seconds = read_timeout(request.headers.get(TIMEOUT))
            turn = await lane.enter(request.headers["X-Request"], seconds)
        except RefusedError as error:
            self._metrics.refused.labels(model, error.reason).inc()
            status = _STATUS.get(error.reason, 503)
            self._metrics.answered(model, str(status), time.monotonic() - started)
            return _said(status, str(error), error.retry_after)
        self._metrics.queue.labels(model).observe(time.monotonic() - started)
        backend = turn.backend
        assert backend is not None  # it has its turn
        deadline = time.time() + turn.deadline - time.monotonic()
        given = request.headers.get("X-Request-Id", "")
        headers = {
            "X-Accel-Redirect": "@turn",
            "X-Slot": f"slot{backend.slot}",
            "X-Key": f"Bearer {backend.key}",
            "X-Deadline": str(math.floor(1000 * deadline)),
            "X-Id": given if ID.fullmatch(given) else secrets.token_hex(16),
        }
        return web.Response(headers=headers)

    async def tell_ready(self, request: web.Request) -> web.Response:
        """Answer probes of the port that clients use, in TorchServe's words."""
        missing = "" if request.match_info.get("what") == "live" else self._ready()
        if missing:
            return _said(503, missing, 1)
        return web.json_response({"status": "Healthy"})

    async def _manage(self, path: str) -> web.Response:
        if path == f"{MANAGE}models":
            lanes = {
                lane.model: {"waiting": lane.waiting, "running": len(lane.running)}
                for lane in self._lanes.values()
            }
            return web.json_response({"models": lanes, "missing": self._ready()})
        if path == f"{MANAGE}reload":
            failed = await self._reload()
            return web.json_response({"failed": failed}, status=409 if failed else 200)
        return _said(404, f"the paths here are {MANAGE}models and {MANAGE}reload")


def read_timeout(given: str | None) -> float:
    """Return the seconds of an X-Request-Timeout header; RefusedError for what is no such."""
    if given is None or not given.strip():
        return DEFAULT_TIMEOUT
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= MOST_TIMEOUT:
        raise RefusedError(
            "timeout",
            f"{TIMEOUT} should be the seconds that the client waits, over 0 and at most "
            f"{MOST_TIMEOUT:g}",
        )
    return seconds


#: Statuses of refusals; others are a 503.
_STATUS = {"unknown_model": 404, "timeout": 400}


class _Unknown(RefusedError):
    def __init__(self, lanes: Mapping[str, Lane]) -> None:
        names = ", ".join(sorted(lanes)) or "none yet"
        super().__init__("unknown_model", f"no model is at this path; models here: {names}")


def _model(path: str) -> str:
    found = PATHS.fullmatch(path)
    return unquote(next(filter(None, found.groups()))) if found else ""


def _said(status: int, message: str, retry_after: float | None = None) -> web.Response:
    headers = {} if retry_after is None else {"Retry-After": str(int(retry_after))}
    return web.json_response({"error": message}, status=status, headers=headers)


async def serve(
    app: web.Application, *, socket: Path | None = None, host: str = "", port: int = 0
) -> web.AppRunner:
    """Serve an application on a unix socket or a TCP port."""
    # A client that leaves ends its handler: that is how a place in the queue becomes free.
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    site: web.BaseSite = (
        web.UnixSite(runner, str(socket)) if socket else web.TCPSite(runner, host, port)
    )
    await site.start()
    return runner


class Finished(asyncio.Protocol):
    """Reads nginx's lines about finished requests."""

    def __init__(
        self, lanes: Mapping[str, Lane], metrics: Metrics, lost: Callable[[str], None]
    ) -> None:
        self._lanes, self._metrics, self._lost = lanes, metrics, lost
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        """Take some lines, the last of which may be cut."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            name, status, seconds = line.decode("ascii").split()
            self._finish(name, status, float(seconds))

    def _finish(self, name: str, status: str, seconds: float) -> None:
        """End the turn of a request; one without a name never came to the dispatcher."""
        if name == "-":
            self._metrics.answered(UNKNOWN, status, seconds)
            return
        owners = [lane for lane in self._lanes.values() if name in lane.running]
        # Whose it would have been is not known where none has it: each remembers that it is over.
        for lane in owners or self._lanes.values():
            if (turn := lane.finish(name)) is not None:
                self._metrics.answered(lane.model, status, seconds)
                if status == "502" and turn.backend is lane.backend:
                    self._lost(lane.model)


async def read_finished(path: Path, reader: Finished) -> None:
    """Make the pipe of finished requests, and read it from now on."""
    os.mkfifo(path, 0o600)
    # Opened for both, so that neither this waits for nginx nor the pipe ends with it.
    pipe = os.fdopen(os.open(path, os.O_RDWR | os.O_NONBLOCK), "rb", buffering=0)
    await asyncio.get_running_loop().connect_read_pipe(lambda: reader, pipe)


__all__ = ["Dispatcher", "Finished", "Phase", "read_finished", "serve"]
