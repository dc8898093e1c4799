"""The Python tuple in a sample of the TorchServe example."""

from __future__ import annotations

import json

import pytest

from torchscript_bundle.serving.api.body import with_brackets


@pytest.mark.parametrize(
    "body",
    [
        '{"text":"Two days.", "target":(1,2)} \n',
        '{"text": "Two days.", "target" : ( 1 , 2 ) }',
        '{"text":"Two days.","target":(1,2,)}',
    ],
)
def test_a_tuple_at_the_end_becomes_a_list(body: str) -> None:
    assert json.loads(with_brackets(body)) == {"text": "Two days.", "target": [1, 2]}


@pytest.mark.parametrize(
    "body",
    [
        '{"text": "it ends with \\"target\\":(1,2)}"}',
        '"\\"target\\":(1,2)}"',
        '{"target": [1, 2], "text": "(1,2)}"}',
        '{"text": "x", "target": (1)}',
        '{"text": "x", "target": (1, __import__)}',
        '{"target": (1,2), "text": "x"}',
        '{"text": "x", "other": (1,2)}',
        "Two days.",
        "",
    ],
)
def test_all_else_stays(body: str) -> None:
    assert with_brackets(body) == body
