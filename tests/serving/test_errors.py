"""What is told of an error, and what is not."""

from __future__ import annotations

import pytest

from torchscript_bundle.serving.errors import last_line, log_failure

TRACEBACK = """The following operation failed in the TorchScript interpreter.
Traceback of TorchScript, serialized code (most recent call last):
RuntimeError: mat1 and mat2 shapes cannot be multiplied
"""


@pytest.mark.parametrize(
    ("said", "last"),
    [
        (TRACEBACK, "RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
        ("one line", "one line"),
        ("one\n\n", "one"),
        ("", ""),
    ],
)
def test_last_line_stands_below_the_traceback(said: str, last: str) -> None:
    assert last_line(RuntimeError(said)) == last


def test_failure_is_logged_with_its_place_and_without_its_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sent = "a secret".upper()
    try:
        raise ValueError(sent)
    except ValueError as error:
        log_failure("answering a request", error)
    [record] = caplog.records
    assert record.levelname == "ERROR"
    assert "ValueError while answering a request" in record.getMessage()
    assert "in test_failure_is_logged_with_its_place" in record.getMessage()
    assert sent not in caplog.text
