"""What is read of the headers about a request, and what is dropped."""

from __future__ import annotations

import math
import time

import pytest

from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.observing.caller import read_caller

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("sent", ["7", "a-b_c.d:e/f+g=@h", "x" * 128])
def test_a_sound_id_is_kept(sent: str) -> None:
    assert read_caller({"x-request-id": sent}, "own").ids == {"request_id": sent}


@pytest.mark.parametrize("sent", ["", "two words", "é", "a\nb", "a\x85b", '"', "x" * 129, "[a]"])
def test_the_servers_own_id_takes_the_place_of_another(sent: str) -> None:
    assert read_caller({"x-request-id": sent}, "own").ids == {"request_id": "own"}


def test_an_own_id_with_the_clients_prefix_is_bounded_too() -> None:
    """TorchServe puts X-Request-Id-Prefix before its own."""
    assert read_caller({}, "a secret:0").ids == {}


@pytest.mark.parametrize(
    "sent",
    [
        *("", "00", TRACE.upper(), TRACE + "-00", TRACE + " ", TRACE[:-1], f"ff{TRACE[2:]}"),
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
        TRACE.replace("4", "٤"),
    ],
)
def test_a_traceparent_is_w3cs_or_none(sent: str) -> None:
    assert read_caller({"traceparent": TRACE}, "").traceparent == TRACE
    assert read_caller({"traceparent": sent}, "").traceparent == ""


def test_a_deadline_is_checked_against_the_clock() -> None:
    assert read_caller({}, "").seconds_left == math.inf
    later = read_caller({"x-request-deadline": str(int(1000 * (time.time() + 60)))}, "")
    assert 59 < later.seconds_left <= 60
    later.check_deadline()
    with pytest.raises(RequestError, match="had passed") as raised:
        read_caller({"x-request-deadline": str(int(1000 * time.time()) - 1)}, "").check_deadline()
    assert raised.value.status == 504


@pytest.mark.parametrize("sent", ["soon", "1.5", "-1", "+1", " 1", "1_000", "٣", "9" * 16, "1e3"])
def test_a_malformed_deadline_is_told(sent: str) -> None:
    with pytest.raises(RequestError, match="unix time in milliseconds") as raised:
        read_caller({"x-request-deadline": sent}, "").check_deadline()
    assert raised.value.status == 400


@pytest.mark.parametrize(("ago", "kept"), [(0.5, True), (3000, True), (4000, False), (-5, False)])
def test_a_start_is_of_the_last_hour(ago: float, kept: bool) -> None:
    started = round(time.time() - ago, 3)
    arrived = read_caller({"x-request-start": f"t={started}"}, "").arrived
    assert arrived == (started if kept else None)


@pytest.mark.parametrize("sent", ["", "5", "t=", "t=x", "t=1e9", "t=1.2.3"])
def test_another_start_is_none(sent: str) -> None:
    assert read_caller({"x-request-start": sent}, "").arrived is None
