"""No text's answer depends on the texts beside it: every kind of model, through the service."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from tests.conftest import CHECKPOINTS
from tests.serving.helpers import ask
from torchscript_bundle.serving.service import Service

#: Texts of all lengths; some spell special tokens out, as users do.
TEXTS = [
    "x",
    "Bad soup",
    "Good </s></s> film",
    "It works [SEP] it does not [CLS]",
    "The film was long and the ending was a surprise to all of us.",
    "We waited an hour for cold soup, and nobody said sorry. " * 6,
]


@pytest.mark.parametrize("name", sorted(CHECKPOINTS))
def test_answers_alone_and_together_are_the_same(
    service: Callable[[str], Service], name: str
) -> None:
    alone = [ask(service(name), {"text": text, "top_k": None})[1] for text in TEXTS]
    for order in itertools.islice(itertools.permutations(range(len(TEXTS))), 0, 720, 97):
        status, together = ask(service(name), {"text": [TEXTS[at] for at in order], "top_k": None})
        assert status == 200, together
        for at, answer in zip(order, together, strict=True):
            wanted = {entry["label"]: entry["score"] for entry in alone[at]}
            got = {entry["label"]: entry["score"] for entry in answer}
            assert got == pytest.approx(wanted, abs=2e-5)
