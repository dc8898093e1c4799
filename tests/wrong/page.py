"""`python -m tests.wrong.page` writes docs/errors.md from the rows that the tests send."""

from __future__ import annotations

from collections.abc import Iterable

from tests.wrong.by_mode import SAMPLES, own
from tests.wrong.core import core
from tests.wrong.rows import Wrong
from tests.wrong.torchserve import EVENTS, FINE, OWN, Own
from torchscript_bundle.server import ROOT

PAGE = ROOT / "docs" / "errors.md"
MOST_SHOWN = 3
LONGEST_SHOWN = 110
_RULE = "| --- | --- | --- | --- |\n"
HEAD = """\
# What a wrong request gets

Written by `python -m tests.wrong.page` from the requests that the tests send, each beside a right
one in the same batch, which is answered as if it were alone
([tests/integration/test_wrong_requests.py](../tests/integration/test_wrong_requests.py)).

A wrong request gets a JSON object `{"error": "<a sentence that says what to send>"}`; about a list,
the sentence starts with the input that is wrong: `item 1 of the list: the text is empty; ...`. The
last column is part of it. Requests are never repeated in it, nor logged. At an address of another
API (`/embeddings`, `/v2/rerank`, `/embed`, ..., each after the model's version) the sentence is in
that API's form, with its statuses: [clients.md](clients.md#errors). The forms of a right request
are in [requests.md](requests.md); numbers are those of `max_length` 64 and `max_client_batch` 16.

## Any mode

The examples are those of sequence classification.

"""
FINE_HEAD = """
## What is not wrong

For sequence classification; a text of null bytes has an answer where the original model has one.

"""
OWN_HEAD = """
## What TorchServe answers by itself

Before any handler, as `{"code": ..., "type": "...", "message": "..."}`; the last column is part of
it. A 500 without `error` is TorchServe's: the handler has none for anything that was tried.

A worker that dies answers none of its batch; requests that wait in line are served by the next
worker. A stream that had begun is cut off without an event. Which of two statuses the batch gets
depends on how the worker died, and, where it was killed, on what TorchServe sees first; so a client
should treat both alike. Over gRPC they are `RESOURCE_EXHAUSTED` (507) and `INTERNAL` (500).

"""
OWN_END = """
Every status of 400 and above closes the connection; a client that is still sending its body may see
a reset instead of a 413. A body shorter than its `Content-Length` is waited for.
"""


def page() -> str:
    """The page, whole."""
    first = SAMPLES[0]
    parts = [HEAD, _table(core(first)), FINE_HEAD, _own(FINE)]
    for sample in SAMPLES:
        title = sample.mode.replace("_", " ").capitalize()
        parts += [f"\n## {title}\n\n", _table(own(sample))]
    return "".join([*parts, OWN_HEAD, _own(OWN + EVENTS), OWN_END])


def _own(rows: Iterable[Own]) -> str:
    lines = [
        _line(row.what, row.shown, str(row.status), f"`{row.says}`" if row.says else "(no body)")
        for row in rows
    ]
    return _line("event", "such as", "status", "says") + _RULE + "".join(lines)


def _table(rows: Iterable[Wrong]) -> str:
    heads = _line("request", "such as", "status", "the error says")
    lines = [_line(row.what, _shown(row), str(row.status), f"`{row.says.strip()}`") for row in rows]
    return heads + _RULE + "".join(lines)


def _shown(row: Wrong) -> str:
    """The first requests that fit into a cell, each once; the shortest if none does."""
    texts = [text for text in dict.fromkeys(each.shown for each in row.sent) if text]
    short = [text for text in texts if len(text) <= LONGEST_SHOWN and text.isprintable()]
    return "<br>".join(short[:MOST_SHOWN] or [min(texts, key=len)])


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def main() -> None:
    """Writes the page."""
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
