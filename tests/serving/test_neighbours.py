"""No text's answer depends on the texts beside it: every kind of classifier."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import CHECKPOINTS, MODES
from tests.serving.helpers import ask
from torchscript_bundle.serving.service import Service

#: Texts and pairs of all lengths; some spell special tokens out, as users do.
ITEMS: list[Any] = [
    "x",
    "Bad soup",
    "Good </s></s> film",
    "It works [SEP] it does not [CLS]",
    "The film was long and the ending was a surprise to all of us.",
    "We waited an hour for cold soup, and nobody said sorry. " * 6,
    {"text": "Bad soup", "text_pair": "x"},
    {"text": "It works", "text_pair": "We waited an hour [SEP] for cold </s> soup. " * 6},
]
CLASSIFIERS = sorted(CHECKPOINTS.keys() - MODES.keys())


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_answers_alone_and_together_are_the_same(
    service: Callable[[str], Service], name: str
) -> None:
    alone = [ask(service(name), {"inputs": item, "top_k": None})[1] for item in ITEMS]
    pick = random.Random(0)
    for _ in range(8):
        order = pick.sample(range(len(ITEMS)), len(ITEMS))
        mixed = {"inputs": [ITEMS[at] for at in order], "top_k": None}
        status, together = ask(service(name), mixed)
        assert status == 200, together
        for at, answer in zip(order, together, strict=True):
            wanted = {entry["label"]: entry["score"] for entry in alone[at]}
            got = {entry["label"]: entry["score"] for entry in answer}
            assert got == pytest.approx(wanted, abs=2e-5)
