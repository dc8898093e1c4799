"""HTTP as bytes: what no client library would send, and what comes back."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Iterable

from torchscript_bundle.server import Answer

SECONDS = 120.0


def send(
    port: int,
    path: str,
    headers: Iterable[tuple[str, bytes]],
    body: bytes = b"",
    method: str = "POST",
) -> socket.socket:
    """Sends a request to a port of this machine.

    Args:
        port: where TorchServe listens.
        path: the address.
        headers: names and values, beside those that each request needs.
        body: as it is.
        method: such as `POST`.
    """
    fixed = [("Host", b"here"), ("Content-Length", b"%d" % len(body))]
    lines = [name.encode("latin-1") + b": " + value for name, value in [*fixed, *headers]]
    head = b"\r\n".join([f"{method} {path} HTTP/1.1".encode(), *lines])
    connection = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
    # A body that is refused unread cannot be sent to its end; the answer is there all the same.
    with contextlib.suppress(ConnectionError):
        connection.sendall(head + b"\r\n\r\n" + body)
    return connection


def receive(connection: socket.socket) -> Answer:
    """The answer on a connection, which is closed."""
    with connection, http.client.HTTPResponse(connection) as response:
        response.begin()
        return Answer(response.status, response.getheader("content-type", ""), response.read())
