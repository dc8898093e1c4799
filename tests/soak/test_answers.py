"""Which answers count as right, and at what time."""

from __future__ import annotations

import pytest

from soak.answers import alike
from soak.editions import Served

RIGHT = b'{"label": "POSITIVE", "score": 0.98, "truncated": true}'


def test_numbers_may_differ_by_rounding() -> None:
    assert alike(b'{"score": 0.98000001, "truncated": true, "label": "POSITIVE"}', RIGHT)


@pytest.mark.parametrize(
    "found",
    [
        b'{"label": "NEGATIVE", "score": 0.98, "truncated": true}',
        b'{"label": "POSITIVE", "score": 0.97, "truncated": true}',
        b'{"label": "POSITIVE", "score": 0.98}',
        b'{"label": "POSITIVE", "score": 0.98, "truncated": 1}',
        b'[{"label": "POSITIVE", "score": 0.98, "truncated": true}]',
        b"POSITIVE",
        b"",
    ],
)
def test_anything_else_may_not(found: bytes) -> None:
    assert not alike(found, RIGHT)


def test_answers_in_the_strings_of_a_tensor_are_compared_as_json() -> None:
    assert alike(rb'{"data": ["{\"score\": 0.5}"]}', rb'{"data": ["{\"score\": 0.50000001}"]}')
    assert not alike(rb'{"data": ["{\"score\": 0.5}"]}', rb'{"data": ["{\"score\": 0.6}"]}')
    assert alike(rb'{"data": ["[0.5, 1.0]"]}', rb'{"data": ["[0.50000001, 1.0]"]}')


def test_during_a_swap_both_editions_are_right_and_after_it_the_new_one() -> None:
    served = Served()
    served.begin("one", 0)
    served.begin("two", 10)
    served.finish("one", 20)
    assert served.during(8, 9) == ["one"]
    assert served.during(15, 16) == ["one", "two"]
    assert served.during(19, 30) == ["one", "two"]
    assert served.during(21, 30) == ["two"]
