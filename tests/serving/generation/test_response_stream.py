"""Server-sent events as bytes."""

from __future__ import annotations

import json

import pytest

from torchscript_bundle.serving.generation.response_stream import event

#: Every character that ends a line for some reader, and some beyond ASCII.
LETTERS = (
    *"\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029",
    *("\u2705", "\u00e9", "\U0001f600", "\u0000", "\x7f", "\ufeff"),
)


@pytest.mark.parametrize("letter", LETTERS, ids=ascii)
def test_event_is_one_line_of_ascii_for_any_reader(letter: str) -> None:
    sent = event({"text": f"a{letter}b"})
    assert sent.isascii()
    line, *rest = sent.decode().splitlines()
    assert rest == [""]
    assert json.loads(line.removeprefix("data: ")) == {"text": f"a{letter}b"}


def test_number_that_is_not_finite_is_no_event() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        event({"logprob": float("nan")})
