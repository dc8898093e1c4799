"""How figures are added up, and which pass."""

from __future__ import annotations

import json

import pytest

from torchscript_bundle.export.quality.decisions import Comparison
from torchscript_bundle.export.quality.gate import Findings, judge

SAME, OTHER = Comparison(1, 1, (0.001,)), Comparison(1, 0, (0.3,))


def judged(changed: int, of: int) -> Findings:
    lines = [(at + 1, [OTHER if at < changed else SAME]) for at in range(of)]
    return judge("int8", lines)


@pytest.mark.parametrize(
    ("changed", "of", "passed"), [(0, 3, True), (1, 200, True), (1, 199, False), (3, 400, False)]
)
def test_half_a_percent_of_the_decisions_may_change(changed: int, of: int, passed: bool) -> None:
    assert judged(changed, of).passed is passed


def test_scores_may_move_by_a_hundredth_in_the_mean() -> None:
    def moved(by: float) -> Findings:
        return judge("int8", [(1, [Comparison(1, 1, (by,)), Comparison(1, 1, (0.0,))])])

    assert moved(0.019).passed
    assert not moved(0.021).passed


def test_what_is_not_a_number_never_passes_and_is_null_in_json() -> None:
    found = judge("float16", [(1, [Comparison(0, 0, (float("nan"),))])])
    assert not found.passed
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["mean_change"] is None


def test_changed_lines_are_told_by_their_numbers() -> None:
    found = judge("int8", [(4, [SAME, OTHER]), (7, [SAME]), (9, [OTHER])])
    assert (found.kept, found.decisions, found.changed) == (2, 4, (4, 9))
    assert found.in_words() == (
        "2 of 4 decisions as in float32 (50.00%), scores moved by 1.5e-01 in the mean, "
        "3.0e-01 at most; changed on lines 4, 9"
    )
    assert len(judged(100, 100).changed) == 20
