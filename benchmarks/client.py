"""A client that times each of its requests, on connections that it keeps."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from benchmarks.engines.base import Endpoint
from benchmarks.load.wrk import LoadError


@dataclass(frozen=True)
class Timed:
    """One answer.

    Attributes:
        ms: milliseconds from the request's first byte to the answer's last.
        timing: the answer's Server-Timing header, if it has one.
    """

    ms: float
    timing: str


class Client:
    """One connection to a server.

    Args:
        endpoint: the server.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        address = urlsplit(endpoint.url)
        self._path = address.path
        self._headers = {"Content-Type": "application/json", **endpoint.headers}
        self._connection = http.client.HTTPConnection(address.netloc, timeout=120)

    def post(self, texts: Sequence[str]) -> Timed:
        """Sends texts in one request.

        Raises:
            LoadError: the answer is not 200.
        """
        body = json.dumps({"text": texts[0]} if len(texts) == 1 else list(texts)).encode()
        started = time.perf_counter()
        self._connection.request("POST", self._path, body, self._headers)
        response = self._connection.getresponse()
        response.read()
        took = (time.perf_counter() - started) * 1000
        if response.status != 200:
            raise LoadError(f"a request got {response.status}")
        return Timed(took, response.headers.get("Server-Timing", ""))

    def close(self) -> None:
        """Hangs up."""
        self._connection.close()


def post_in_turn(endpoint: Endpoint, texts: Sequence[str], connections: int) -> list[Timed]:
    """Sends each text in a request of its own, over some connections at the same time."""

    def send(own: Sequence[str]) -> list[Timed]:
        client = Client(endpoint)
        try:
            return [client.post([text]) for text in own]
        finally:
            client.close()

    with ThreadPoolExecutor(connections) as pool:
        parts = pool.map(send, [texts[at::connections] for at in range(connections)])
        return [timed for part in parts for timed in part]
