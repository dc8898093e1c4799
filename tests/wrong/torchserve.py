"""What TorchServe answers by itself, before any handler."""

from __future__ import annotations

from dataclasses import dataclass

from tests.wrong.rows import PREDICT

TEXT = (("Content-Type", b"text/plain"),)
FORM = (("Content-Type", b"application/x-www-form-urlencoded"),)
MULTIPART = (("Content-Type", b"multipart/form-data; boundary=x"),)
NO_KEY = "Token Authorization failed"
NO_HTTP = "Invalid HTTP message"
#: `max_request_size` of server/config.properties (bytes).
LARGEST = 1_048_576


@dataclass(frozen=True)
class Own:
    """A request that never reaches the handler.

    Attributes:
        what: the kind, in the page's words.
        shown: how the page writes the request.
        status: what it gets.
        says: part of the body; empty where there is none.
        method: such as `POST`.
        path: `{model}` is the served model.
        headers: names and values.
        body: as it is.
        key: the key to send; None for the right one, empty for none.
    """

    what: str
    shown: str
    status: int
    says: str
    method: str = "POST"
    path: str = PREDICT
    headers: tuple[tuple[str, bytes], ...] = TEXT
    body: bytes = b"It works."
    key: str | None = None


OWN = (
    Own("no key, a wrong or an expired one", "no `Authorization`", 400, NO_KEY, key=""),
    Own("", "`Authorization: Bearer wrong`", 400, NO_KEY, key="wrong"),
    Own(
        "no HTTP: headers or an address over 8 KiB, null bytes",
        "`X-Long: aaa...`",
        400,
        NO_HTTP,
        headers=(*TEXT, ("X-Long", b"a" * 9000)),
    ),
    Own("", "`POST /predictions/aaa...`", 400, NO_HTTP, path=f"{PREDICT}/{'a' * 9000}"),
    Own("", "`X-Null: a\\x00`", 400, NO_HTTP, headers=(*TEXT, ("X-Null", b"a\x00"))),
    Own("", "`X-\\xff: a`", 400, NO_HTTP, headers=(*TEXT, ("X-\xff", b"a"))),
    Own(
        "no such model",
        "`POST /predictions/unknown`",
        404,
        "ModelNotFoundException",
        path="/predictions/unknown",
    ),
    Own(
        "no such version",
        "`POST /predictions/<model>/9.9`",
        404,
        "ModelVersionNotFoundException",
        path=f"{PREDICT}/9.9",
    ),
    Own("no such address", "`POST /unknown`", 404, "ResourceNotFoundException", path="/unknown"),
    Own(
        "another method, where the address has none",
        "`GET /`",
        405,
        "MethodNotAllowedException",
        method="GET",
        path="/",
    ),
    Own(
        "a body over `max_request_size` (1 MiB)",
        "1,048,577 bytes",
        413,
        "",
        body=b"a" * (LARGEST + 1),
    ),
    Own("", "2 MiB of JSON", 413, "", body=b'["' + b"a " * LARGEST + b'"]'),
    Own(
        "a form that cannot be parsed",
        "`data=100%`",
        500,
        "ErrorDataDecoderException",
        headers=FORM,
        body=b"data=100%",
    ),
    Own(
        "a part of a form without a name, or of an unknown charset",
        "`Content-Disposition: form-data`",
        500,
        "DecoderException",
        headers=MULTIPART,
        body=b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n",
    ),
    Own(
        "",
        "`Content-Type: text/plain; charset=unknown`",
        500,
        "DecoderException",
        headers=MULTIPART,
        body=b'--x\r\nContent-Disposition: form-data; name="data"\r\n'
        b"Content-Type: text/plain; charset=unknown\r\n\r\na\r\n--x--\r\n",
    ),
    Own(
        "a part of a form with a charset that cannot be a name",
        "`Content-Type: text/plain; charset=\u00e9`",
        403,
        "IllegalCharsetNameException",
        headers=MULTIPART,
        body=b'--x\r\nContent-Disposition: form-data; name="data"\r\n'
        b"Content-Type: text/plain; charset=\xc3\xa9\r\n\r\na\r\n--x--\r\n",
    ),
)

QUEUE_FULL = Own(
    "more requests wait than `job_queue_size` (100)", "", 503, "ServiceUnavailableException"
)
#: TorchServe looks at how the process ended when its connection closes: an exit status of 137 is
#: 507, any other is 500, and so is one that is not known yet. Source: the end of WorkerThread.run.
WORKER_KILLED = Own(
    "the worker was killed with this batch (SIGKILL, as when memory is out)",
    "",
    507,
    "Worker died.",
)
WORKER_DIED = Own(
    "the same, where TorchServe saw the closed connection first; the worker died in any other way, "
    "or did not answer within `response_timeout`",
    "",
    500,
    "Worker died.",
)
#: What tests bring about themselves.
EVENTS = (QUEUE_FULL, WORKER_KILLED, WORKER_DIED)

LABEL = '"label"'
JSON = (("Content-Type", b"application/json"),)
#: What looks wrong and is answered; sequence classification.
FINE = (
    Own("null bytes in a text", r'`"a\u0000b"`', 200, LABEL, headers=JSON, body=rb'"a\u0000b"'),
    Own("", r'`"\u0000"`', 200, LABEL, headers=JSON, body=rb'"\u0000"'),
    Own(
        "a whole number of 4,300 digits, where there is no bound",
        "`top_k`",
        200,
        LABEL,
        headers=JSON,
        body=b'{"text": "a", "top_k": 1' + b"0" * 4299 + b"}",
    ),
    Own(
        "what is no JSON, and not declared as such: it is a text",
        "`{NaN`",
        200,
        LABEL,
        headers=(),
        body=b"{NaN",
    ),
    Own("", "`[[[[[...`", 200, LABEL, headers=(), body=b"[" * 50_000),
    Own(
        "a text that begins with a brace, where no key of a request follows",
        "`{Ode to the brace}`",
        200,
        LABEL,
        body=b"{Ode to the brace}",
    ),
    Own("", "`{'verse': 'one'}`", 200, LABEL, body=b"{'verse': 'one'}"),
    Own("a body of `max_request_size`", "1,048,576 bytes", 200, LABEL, body=b"a " * (LARGEST // 2)),
    Own(
        "an `Accept` that cannot be met, or makes no sense: JSON",
        "`Accept: image/png`",
        200,
        LABEL,
        headers=(*TEXT, ("Accept", b"image/png")),
    ),
    Own("", r"`Accept: \xff;q=,,/`", 200, LABEL, headers=(*TEXT, ("Accept", b"\xff;q=,,/"))),
    Own(
        "bytes in headers that are not ASCII",
        r"`X-Odd: \xff\xfe`",
        200,
        LABEL,
        headers=(*TEXT, ("X-Odd", b"\xff\xfe")),
    ),
    Own(
        "a `traceparent` or an `X-Request-Id` that is none: it is dropped",
        "`traceparent: 00-0-0-0`",
        200,
        LABEL,
        headers=(*TEXT, ("traceparent", b"00-0-0-0"), ("X-Request-Id", b"\xe9 a")),
    ),
    Own(
        "`PUT`, `PATCH`, `DELETE` to `/predictions/<model>`: as `POST`",
        "`DELETE`",
        200,
        LABEL,
        method="DELETE",
    ),
    Own(
        "a form with `data` twice: the handler gets the last",
        "`data=a&data=It+works.`",
        200,
        LABEL,
        headers=FORM,
        body=b"data=a&data=It+works.",
    ),
)
