"""The Accept header (JSON unless text/plain ranks above it), and statuses."""

from __future__ import annotations

import pytest

from torchscript_bundle.serving.api.http import prefers_plain_text
from torchscript_bundle.serving.errors import RequestError


@pytest.mark.parametrize(
    "accept",
    [
        "text/plain",
        "TEXT/Plain",
        "text/*",
        "text/plain, */*;q=0.1",
        "text/plain;q=0.5",
        "text/plain;q=0.9, application/json;q=0.8",
        "application/json ; q=0.1 , text/plain ; charset=utf-8 ; q=0.2",
        "text/*;q=0.5, application/*;q=0.4",
        "text/plain, application/json;q=0",
        "text/plain, application/json;q=high",
    ],
)
def test_plain_text_is_preferred(accept: str) -> None:
    assert prefers_plain_text(accept)


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "application/json",
        "text/html,application/xhtml+xml,*/*;q=0.8",
        "text/plain, application/json",
        "text/plain;q=0.4, application/*;q=0.5",
        "text/*, text/plain;q=0.1, application/json;q=0.2",
        "text/plain;q=0",
        "text/plain;q=high",
        "text/plain;q=nan",
        ";;,,q=1;=",
    ],
)
def test_json_is_preferred(accept: str) -> None:
    assert not prefers_plain_text(accept)


def test_status_without_a_reason_phrase_cannot_be_raised() -> None:
    with pytest.raises(ValueError, match="418"):
        RequestError(418, "send coffee")
