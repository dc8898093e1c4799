"""Estimates of seconds, from passes that ran."""

import pytest

from torchscript_bundle.serving.engine.pace import START, Pace


def test_the_first_pass_is_believed_and_others_scale_with_their_tokens() -> None:
    pace = Pace()
    pace.saw(500 - START, 1.0)
    assert pace.seconds([500 - START]) == pytest.approx(1.0)
    assert pace.seconds([100, 150 - START]) == pytest.approx(0.5)
    assert pace.tokens(2.0) == pytest.approx(1000 - START)


def test_a_machine_that_slows_down_is_noticed_and_its_best_pace_remembered() -> None:
    pace = Pace()
    pace.saw(1000, 1.0)
    for _ in range(30):
        pace.saw(1000, 3.0)
    assert pace.seconds([1000]) == pytest.approx(3.0, rel=0.01)
    assert pace.estimate([1000]).least_seconds == pytest.approx(1.0)
    for _ in range(30):
        pace.saw(1000, 0.5)
    assert pace.seconds([1000]) == pytest.approx(0.5, rel=0.05)
    assert pace.estimate([1000]).least_seconds == pytest.approx(0.5)


def test_one_small_pass_corrects_what_a_busy_start_has_shown() -> None:
    pace = Pace()
    pace.saw(16, 0.08)
    before = pace.estimate([2000]).least_seconds
    pace.saw(16, 0.002)
    assert pace.estimate([2000]).least_seconds == pytest.approx(before / 40)
    assert pace.seconds([2000]) > 0.9 * before


def test_a_small_pass_that_was_interrupted_hardly_counts() -> None:
    pace = Pace()
    pace.saw(1000, 1.0)
    pace.saw(10, 1.0)
    assert pace.seconds([1000]) < 1.1


def test_without_a_pass_everything_fits() -> None:
    assert Pace().seconds([10_000]) == 0
    assert Pace().tokens(0.1) == float("inf")
