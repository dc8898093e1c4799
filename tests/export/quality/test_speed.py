"""Which precision is called the fastest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from torchscript_bundle.export.quality.speed import fastest, measure


class Worker:
    """Takes as long as it is told, and notes when its turn is."""

    def __init__(self, name: str, turns: list[str], times: Iterator[float]) -> None:
        self._name, self._turns, self._times = name, turns, times

    def seconds(self, requests: Any) -> float:
        self._turns.append(f"{self._name} {len(requests)}")
        return next(self._times) * len(requests)


def test_each_call_is_measured_in_turn_and_outliers_do_not_count() -> None:
    turns: list[str] = []
    slow = Worker("slow", turns, iter([0.02, 0.02, 0.02, 0.02, 9.0] * 3))
    fast = Worker("fast", turns, iter([9.0, 0.01, 0.01, 0.01, 0.01] * 3))
    times = measure({"float32": slow, "int8": fast}, [[1, 2], [3]])  # type: ignore[dict-item,list-item]
    assert turns[:4] == ["slow 2", "fast 2", "slow 1", "fast 1"]
    assert times == pytest.approx({"float32": 20.0, "int8": 10.0})


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ({"float32": 9.0, "bfloat16": 5.0, "int8": 3.0}, "int8"),
        ({"float32": 9.0, "bfloat16": 5.0, "int8": 7.0}, "bfloat16"),
        ({"float32": 9.0, "bfloat16": 8.9}, "float32"),
        ({"float32": 9.0}, "float32"),
    ],
)
def test_float32_stays_where_little_is_gained(times: dict[str, float], chosen: str) -> None:
    assert fastest(times) == chosen
