"""Requests to the server that a run directory describes."""

from __future__ import annotations

import http.client
import json
import socket as sockets
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchscript_bundle.server.advice import command
from torchscript_bundle.server.state import KEYS, SETTINGS, ServerError, State, load_state

#: Keys must never go to a proxy of the environment: the server is on this machine.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


#: The host in addresses of a server that takes requests on a unix socket.
SOCKET = "socket"


@dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    status: int
    content_type: str
    body: bytes

    def json(self) -> Any:
        """Parse the body."""
        return json.loads(self.body)


def send(
    request: urllib.request.Request,
    timeout: float,
    opener: urllib.request.OpenerDirector = DIRECT,
) -> Answer:
    """Send a request; return its answer, whatever its status. ServerError if nothing answers."""
    try:
        with opener.open(request, timeout=timeout) as response:
            kind = response.headers.get("content-type", "")
            return Answer(response.status, kind, response.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers.get("content-type", ""), error.read())
    except (OSError, http.client.HTTPException) as error:
        raise ServerError(f"{request.full_url} does not answer ({error})") from error


class Client:
    """Talks to the TorchServe of a run directory."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir.resolve()

    @property
    def state(self) -> State:
        """The plan that the server was started by."""
        return load_state(self.run_dir)

    @property
    def model(self) -> str:
        """Name of the served model."""
        return self.state.model

    @property
    def address(self) -> str:
        """URL of the predictions endpoint."""
        state = self.state
        host = f"127.0.0.1:{state.ports.inference}" if state.socket is None else SOCKET
        return f"http://{host}/predictions/{state.model}"

    def properties(self) -> dict[str, str]:
        """Return the settings that TorchServe was started with; the last line of a key counts."""
        lines = (self.run_dir / SETTINGS).read_text().splitlines()
        pairs = (line.partition("=") for line in lines if not line.startswith("#"))
        return {name.strip(): value.strip() for name, _, value in pairs if name.strip()}

    def token(self, kind: str) -> str:
        """Return the `inference`, `management` or `API` key; ServerError if none is written."""
        path = self.run_dir / KEYS
        try:
            return str(json.loads(path.read_text())[kind]["key"])
        except FileNotFoundError as error:
            raise ServerError(
                f"{path} is not there: nothing is served; {command('serve')}"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise ServerError(f"{path} is damaged; {command('serve')} makes new keys") from error

    def predict(
        self,
        body: bytes,
        *,
        content_type: str | None = "text/plain",
        accept: str | None = None,
        timeout: float = 60,
    ) -> Answer:
        """POST a body to the model's predictions endpoint."""
        headers = {"Content-Type": content_type, "Accept": accept}
        given = {name: value for name, value in headers.items() if value is not None}
        return self.request(
            "POST", self.address, "inference", body=body, headers=given, timeout=timeout
        )

    def describe(self, timeout: float = 60) -> Any:
        """Return TorchServe's own description of the model and its workers."""
        url = f"http://127.0.0.1:{self.state.ports.management}/models/{self.model}"
        return self.request("GET", url, "management", timeout=timeout).json()

    def request(
        self,
        method: str,
        url: str,
        key: str,
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = 60,
    ) -> Answer:
        """Send a request with a key (`inference`, `management`); ServerError if nothing answers."""
        all_headers = {**self._authorization(key), **(headers or {})}
        request = urllib.request.Request(url, body, all_headers, method=method)
        return send(request, timeout, self._opener(request))

    def _opener(self, request: urllib.request.Request) -> urllib.request.OpenerDirector:
        socket = self.state.socket if request.host == SOCKET else None
        if socket is None:
            return DIRECT
        return urllib.request.build_opener(urllib.request.ProxyHandler({}), _UnixHandler(socket))

    def _authorization(self, key: str) -> dict[str, str]:
        if self.properties().get("disable_token_authorization") == "true":
            return {}
        return {"Authorization": f"Bearer {self.token(key)}"}


class _UnixConnection(http.client.HTTPConnection):
    """An HTTP connection over a unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__(SOCKET, timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = sockets.socket(sockets.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _UnixHandler(urllib.request.HTTPHandler):
    """Opens URLs over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        def connect(_: str, /, *, timeout: float = 60, **__: Any) -> _UnixConnection:
            return _UnixConnection(self._path, timeout)

        return self.do_open(connect, request)
