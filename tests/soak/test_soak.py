"""A soak of half a minute: each kind of disturbance once or more, and a good verdict."""

from __future__ import annotations

import asyncio

import pytest

from soak.__main__ import soak
from soak.disturb import Timetable


@pytest.mark.slow
def test_a_short_soak_finds_no_fault() -> None:
    report = asyncio.run(soak(30, Timetable(worker=5, java=12, archive=18)))
    assert report.faults() == []
    assert {kill.what for kill in report.disturbed.kills} == {"worker", "java"}
    assert report.disturbed.swaps
    assert sum(report.seen.right.values()) > 100
