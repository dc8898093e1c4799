"""The form of the TorchServe example and of Hugging Face's inference endpoints."""

from __future__ import annotations

from typing import Any

import pytest

from tests.serving.api.protocols.helpers import ASKS, TELLS, TEXTS, call, refusal
from torchscript_bundle.serving.modes.base import Mode

PAIR = {"text": "a", "text_pair": "b"}
ASKED = {"question": "a", "context": "b"}


@pytest.mark.parametrize(
    ("payload", "item"),
    [
        ("a", "a"),
        (5, 5),
        (None, None),
        ({"text": "a"}, "a"),
        ({"inputs": "a"}, "a"),
        ({"data": "a"}, "a"),
        ({"text": 5}, 5),
        ({"inputs": None}, None),
        ({"inputs": {"text": "a"}}, {"text": "a"}),
        (PAIR, PAIR),
        ({"inputs": PAIR}, PAIR),
        ({"data": PAIR}, PAIR),
        ({"text_pair": "b"}, {"text_pair": "b"}),
        ({"inputs": {"x": 1}}, {"x": 1}),
        ({"text": ["a"], "text_pair": ["b"]}, {"text": ["a"], "text_pair": ["b"]}),
    ],
)
def test_one_item_gets_its_answer_bare(payload: object, item: object) -> None:
    read = call(payload)
    assert (read.items, read.parameters, read.listed) == ([item], {}, False)
    assert read.reply([{"label": "x"}]) == {"label": "x"}


@pytest.mark.parametrize(
    ("payload", "items"),
    [
        ([], []),
        (["a", "b"], ["a", "b"]),
        (["a", PAIR, None, ["b"]], ["a", PAIR, None, ["b"]]),
        ({"text": ["a", "b"]}, ["a", "b"]),
        ({"inputs": ["a"]}, ["a"]),
        ({"inputs": [PAIR, "a"]}, [PAIR, "a"]),
        ({"data": []}, []),
    ],
)
def test_a_list_gets_a_list(payload: object, items: list[object]) -> None:
    read = call(payload)
    assert (read.items, read.parameters, read.listed) == (items, {}, True)
    assert read.reply(["x"]) == ["x"]


@pytest.mark.parametrize(
    ("payload", "item"),
    [(ASKED, ASKED), ({"inputs": ASKED}, ASKED), ("a", "a"), ({"context": "b"}, {"context": "b"})],
)
def test_items_of_a_mode_without_text(payload: object, item: object) -> None:
    assert call(payload, ASKS).items == [item]


@pytest.mark.parametrize("holder", [{"text": "a"}, {"inputs": ["a"]}, {"data": "a"}, PAIR])
@pytest.mark.parametrize(
    ("option", "found"),
    [
        ({"top_k": 2}, {"top_k": 2}),
        ({"parameters": {"top_k": None}}, {"top_k": None}),
        ({"parameters": {}}, {}),
        ({"parameters": {}, "top_k": "x"}, {"top_k": "x"}),
    ],
)
def test_parameters_alone_or_under_their_key(
    holder: dict[str, Any], option: dict[str, Any], found: dict[str, Any]
) -> None:
    read = call({**holder, **option})
    assert read.parameters == found
    assert read.items == call(holder).items


def test_options_of_the_inference_api_change_nothing() -> None:
    options = {"wait_for_model": True, "use_cache": False, "use_gpu": True}
    read = call({"inputs": ["a"], "top_k": 2, "options": options})
    assert (read.items, read.parameters) == (["a"], {"top_k": 2})


def test_parameters_in_both_places() -> None:
    read = call({"text": "a", "top_k": 1, "parameters": {"stride": 2}}, TELLS)
    assert read.parameters == {"top_k": 1, "stride": 2}


ONE_INPUT = (
    'send one input: an object with "text", "text_pair", or the same under "inputs" or "data"'
)
ASK_ONE = (
    'send one input: an object with "question", "context", or the same under "inputs" or "data"'
)
KNOWN = (
    "the object has a key that is not known; "
    'known are "text", "text_pair", "inputs", "data", "top_k", "raw_scores", "truncate", '
    '"truncation_direction", "parameters", "options"'
)


@pytest.mark.parametrize(
    ("payload", "mode", "says"),
    [
        ({}, TEXTS, ONE_INPUT),
        ({"top_k": 1}, TEXTS, ONE_INPUT),
        ({"parameters": {}}, TEXTS, ONE_INPUT),
        ({"text": "secret", "inputs": "secret"}, TEXTS, ONE_INPUT),
        ({"text_pair": "secret", "data": "secret"}, TEXTS, ONE_INPUT),
        ({"inputs": "secret", "data": "secret"}, TEXTS, ONE_INPUT),
        ({}, ASKS, ASK_ONE),
        ({"text": "a", "secret": 1}, TEXTS, KNOWN),
        ({"text": "a", "Top_K": 1}, TEXTS, KNOWN),
        ({"secret": "a"}, TEXTS, KNOWN),
        (
            {"text": "a"},
            ASKS,
            'known are "question", "context", "inputs", "data", "parameters", "options"',
        ),
        (
            {"text": "a", "parameters": None},
            TEXTS,
            "an object, with top_k or raw_scores or truncate or truncation_direction",
        ),
        (
            {"text": "a", "top_k": 1, "parameters": {"top_k": 1}},
            TEXTS,
            "top_k is given twice; send it once",
        ),
        (
            {"text": "a", "parameters": {"secret": 1}},
            TEXTS,
            '"parameters.truncate", "parameters.truncation_direction"',
        ),
        ({"text": "a", "options": None}, TEXTS, "with wait_for_model or use_cache or use_gpu"),
        ({"text": "a", "options": {"use_cache": 1}}, TEXTS, "use_cache must be true or false"),
        ({"text": "a", "options": {"secret": 1}}, TEXTS, '"options.use_cache", "options.use_gpu"'),
    ],
)
def test_refused_forms(payload: object, mode: Mode, says: str) -> None:
    assert refusal(payload, mode).endswith(says)
