"""KServe's first protocol: instances in, predictions out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.serving.api.protocols.helpers import ASKS, KNOWN_OF_TEXTS, OBJECT_OF_TEXTS, call, refusal
from tests.serving.helpers import ask, post
from torchscript_bundle.serving.api.http import TEXT
from torchscript_bundle.serving.service import Service

Named = Callable[[str], Service]
PAIR = {"text": "a", "text_pair": "b"}


@pytest.mark.parametrize("items", [[], ["a"], ["a", PAIR], [PAIR], [None, 5, ["a"]]])
def test_instances_are_the_items(items: list[object]) -> None:
    read = call({"instances": items})
    assert (read.items, read.parameters, read.listed) == (items, {}, True)
    assert read.reply(["x", "y"]) == {"predictions": ["x", "y"]}


def test_instances_of_a_mode_without_text() -> None:
    asked = {"question": "a", "context": "b"}
    assert call({"instances": [asked]}, ASKS).items == [asked]


def test_parameters_are_beside_them() -> None:
    read = call({"instances": ["a"], "parameters": {"top_k": 2}})
    assert (read.items, read.parameters) == (["a"], {"top_k": 2})


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        ({"instances": "secret"}, "instances must be a list of inputs"),
        ({"instances": None}, "instances must be a list of inputs"),
        ({"instances": PAIR}, "instances must be a list of inputs"),
        ({"instances": ["a"], "secret": 1}, 'known are "instances", "parameters"'),
        ({"instances": ["a"], "inputs": ["a"]}, 'known are "instances", "parameters"'),
        ({"instances": ["a"], "top_k": 1}, 'known are "instances", "parameters"'),
        ({"instances": ["a"], "parameters": []}, OBJECT_OF_TEXTS),
        ({"instances": ["a"], "parameters": {"secret": 1}}, KNOWN_OF_TEXTS),
    ],
)
def test_refused_forms(payload: object, says: str) -> None:
    assert refusal(payload).endswith(says)


def test_answers_are_those_of_the_native_form(service: Named) -> None:
    items = ["We waited.", {"text": "Not bad.", "text_pair": "At all."}]
    option = {"parameters": {"top_k": 2}}
    status, plain = ask(service("bert"), {"inputs": items, **option})
    assert status == 200
    assert ask(service("bert"), {"instances": items, **option}) == (200, {"predictions": plain})


@pytest.mark.parametrize(
    ("payload", "status", "says"),
    [
        ({"instances": []}, 422, "the list is empty; send at least one text"),
        (
            {"instances": ["a", 5]},
            422,
            "item 1 of the list: the text is a number; send a string",
        ),
        ({"instances": ["a"] * 65}, 413, "65 texts in one request; send at most 64 at a time"),
        ({"instances": [{"dat": "a"}]}, 422, 'known are "text", "text_pair"'),
    ],
)
def test_wrong_items_are_told_as_in_the_native_form(
    service: Named, payload: object, status: int, says: str
) -> None:
    got, answer = ask(service("bert"), payload)
    assert got == status
    assert answer["error"].endswith(says)


def test_plain_text_is_a_line_for_each_instance(service: Named) -> None:
    texts = ["We waited.", "Not bad."]
    labels = [entry["label"] for entry in ask(service("bert"), texts)[1]]
    [bare] = service("bert").answer([post({"instances": texts}, accept="text/plain")])
    assert (bare.status, bare.content_type) == (200, TEXT)
    assert bare.body.decode().split("\n") == labels
