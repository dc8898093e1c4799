"""Requests from inside a container's network, which has no way out: run by `nsenter --net`.

`client.py ask URL [BODY]` prints status and answer; with a body it sends a text and the key.
`client.py load URL READY` sends texts until READY is not 200 any more, as a load balancer does, and
prints how many were sent, and what became of them.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import threading
import time
from collections import Counter
from urllib.parse import urlsplit

CLIENTS = 8
SECONDS = 120.0


def ask(url: str, body: str | None = None, timeout: float = 60) -> tuple[int, str]:
    """Return the status and the answer to one request on a connection of its own."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    headers = {"Content-Type": "text/plain", "Authorization": f"Bearer {os.environ.get('KEY')}"}
    try:
        connection.request("POST" if body else "GET", parts.path, body, headers if body else {})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def load(url: str, ready: str) -> dict[str, int]:
    """Send texts from several threads until the server wants no more; return what each got."""
    unready = threading.Event()
    got: Counter[str] = Counter()

    def send() -> None:
        while not unready.is_set():
            try:
                got[str(ask(url, "good " * 50)[0])] += 1
            except (OSError, http.client.HTTPException) as error:
                got[repr(error)] += 1

    threads = [threading.Thread(target=send) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends and ask(ready)[0] == 200:
        time.sleep(0.1)
    unready.set()
    for thread in threads:
        thread.join()
    return dict(got)


if __name__ == "__main__":
    print(json.dumps({"ask": ask, "load": load}[sys.argv[1]](*sys.argv[2:])))
