"""What becomes of requests, against a server that does to them what is asked."""

from __future__ import annotations

import asyncio
import socket

import pytest

from soak.client import Ask, Outcome, connect, send

ANSWERS = {
    "/right": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "/wrong": b"HTTP/1.1 422 No\r\nContent-Length: 0\r\n\r\n",
    "/refused": b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
    "/failed": b"HTTP/1.1 503 Broken\r\nContent-Length: 0\r\n\r\n",
    "/died": b"HTTP/1.1 507 Died\r\nContent-Length: 0\r\n\r\n",
    "/cut": b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok",
    "/reset": b"",
}


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer by the path, and hang up; or say nothing until the client does."""
    path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
    if path == "/silent":
        await reader.read()
    writer.write(ANSWERS.get(path, b""))
    writer.close()


async def _ask(path: str) -> Outcome:
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        async with connect(1) as session:
            url = f"http://127.0.0.1:{port}"
            outcome = await send(session, url, Ask(path, b"x"), patience=0.5)
        await asyncio.sleep(0.05)  # the server's end of the connection
    return outcome


@pytest.mark.parametrize(
    ("path", "fate", "cause"),
    [
        ("/right", "answered", "200"),
        ("/wrong", "answered", "422"),
        ("/refused", "refused", "503"),
        ("/failed", "lost", "503"),
        ("/died", "lost", "507"),
        ("/cut", "lost", "reset"),
        ("/reset", "lost", "reset"),
        ("/silent", "lost", "timeout"),
    ],
)
def test_a_request_meets_its_fate(path: str, fate: str, cause: str) -> None:
    outcome = asyncio.run(_ask(path))
    assert (outcome.fate, outcome.cause) == (fate, cause)


def test_where_nobody_listens_nothing_was_sent() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    async def ask() -> Outcome:
        async with connect(1) as session:
            return await send(session, f"http://127.0.0.1:{port}", Ask("/"), patience=1)

    assert asyncio.run(ask()).fate == "unconnected"
