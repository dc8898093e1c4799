"""Zero-shot classification: what a request may say, and answers equal to transformers' own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from transformers import pipeline

from tests.serving.helpers import BUNDLE, ask, post, raw, read
from torchscript_bundle.serving.errors import ArtifactError
from torchscript_bundle.serving.modes.zero_shot_classification import ZeroShotClassification
from torchscript_bundle.serving.service import Service

Named = Callable[[str], Service]

NAMES = ["bert_nli", "roberta_nli", "left_nli"]

TEXTS = [
    "The film was long.",
    "We waited an hour for cold soup, and nobody said sorry.",
    "CAFÉ, naïve, Übergröße!",
    "你好 \U0001f600 <s> [SEP]",
    "x",
    "It works as described; " * 30,
]
LABELS = ["food", "Übergröße", "a film {0} {}", "battery life", "\U0001f600"]


@pytest.fixture(scope="session")
def oracle(checkpoint: Callable[[str], Path]) -> Callable[[str], Any]:
    """A name of a checkpoint -> transformers' pipeline on it."""

    @cache
    def make(name: str) -> Any:
        found = pipeline("zero-shot-classification", model=str(checkpoint(name)))
        found.tokenizer.model_max_length = 64
        return found

    return make


def worst_difference(answer: dict[str, Any], expected: dict[str, Any]) -> float:
    """Of the scores by label; the order must be the same, but where two are as good."""
    assert answer["sequence"] == expected["sequence"]
    assert len(answer["labels"]) == len(expected["labels"])
    pairs = [zip(each["labels"], each["scores"], strict=True) for each in (answer, expected)]
    mine, others = map(dict, pairs)
    assert mine.keys() == others.keys()
    assert answer["scores"] == sorted(answer["scores"], reverse=True)
    for label, other in zip(answer["labels"], expected["labels"], strict=True):
        assert label == other or mine[label] == pytest.approx(mine[other], abs=1e-5)
    return max(abs(mine[label] - others[label]) for label in mine)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("labels", [LABELS, LABELS[:2], LABELS[:1], "food, a film ,, x,"])
@pytest.mark.parametrize("template", [None, "{}", "On {}, no? \U0001f600"])
def test_answers_equal_those_of_transformers(
    service: Named,
    oracle: Callable[[str], Any],
    name: str,
    multi_label: bool,
    labels: list[str] | str,
    template: str | None,
) -> None:
    chosen = {"candidate_labels": labels, "multi_label": multi_label}
    chosen |= {"hypothesis_template": template} if template else {}
    status, answers = ask(service(name), {"inputs": TEXTS, "parameters": chosen})
    assert status == 200, answers
    for text, answer in zip(TEXTS, answers, strict=True):
        assert answer.get("truncated", False) or text != TEXTS[-1]
        assert "truncated" not in answer or text != "x"
        assert worst_difference(answer, oracle(name)(text, **chosen)) < 1e-5


def test_as_many_labels_as_a_request_may_hold(service: Named, oracle: Callable[[str], Any]) -> None:
    chosen = {"candidate_labels": [f"film {number}" for number in range(64)]}
    status, answer = ask(service("bert_nli"), {"inputs": TEXTS[0], **chosen})
    assert status == 200
    assert sum(answer["scores"]) == pytest.approx(1)
    assert worst_difference(answer, oracle("bert_nli")(TEXTS[0], **chosen)) < 1e-5
    chosen["candidate_labels"].append("one too many")
    status, answer = ask(service("bert_nli"), {"inputs": TEXTS[0], **chosen})
    assert (status, "65" in answer["error"]) == (413, True)


def test_forms_of_a_request_get_the_same_answer(service: Named) -> None:
    chosen = {"candidate_labels": "food, film"}
    status, alone = ask(service("bert_nli"), {"text": TEXTS[0], **chosen})
    assert (status, sorted(alone)) == (200, ["labels", "scores", "sequence"])
    parameters = {"parameters": {"candidate_labels": ["food", "film"]}}
    for payload in ({"inputs": TEXTS[0]}, {"data": TEXTS[0]}, {"inputs": {"text": TEXTS[0]}}):
        assert ask(service("bert_nli"), {**payload, **parameters}) == (200, alone)
    assert ask(service("bert_nli"), {"inputs": TEXTS[:1], **parameters}) == (200, [alone])
    instances = {"instances": [TEXTS[0]], **parameters}
    assert ask(service("bert_nli"), instances) == (200, {"predictions": [alone]})
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": TEXTS[:1]}
    status, _ = ask(service("bert_nli"), {"inputs": [tensor], "parameters": chosen})
    assert status == 200
    [bare] = service("bert_nli").answer([post({"text": TEXTS[0], **chosen}, accept="text/plain")])
    assert bare.body.decode() == alone["labels"][0]


def test_requests_together_get_what_each_gets_alone(service: Named) -> None:
    requests = [
        post({"text": text, "candidate_labels": LABELS[: number % 5 + 1]})
        for number, text in enumerate(TEXTS)
    ]
    together = service("left_nli").answer([*requests, raw(b"no labels")])
    assert together[-1].status == 422
    for request, response in zip(requests, together[:-1], strict=True):
        [alone] = service("left_nli").answer([request])
        assert worst_difference(read(response), read(alone)) < 1e-5


@pytest.mark.parametrize(
    ("payload", "status", "says"),
    [
        (
            "a text",
            422,
            "candidate_labels must be a list of 1 to 1000 strings, or one string with commas",
        ),
        ({"candidate_labels": None}, 422, "candidate_labels must be"),
        ({"candidate_labels": []}, 422, "candidate_labels must be"),
        ({"candidate_labels": " , "}, 422, "candidate_labels must be"),
        ({"candidate_labels": {"a": 1}}, 422, "candidate_labels must be"),
        ({"candidate_labels": ["a", 5]}, 422, "label 1 is a number"),
        ({"candidate_labels": ["a", " "]}, 422, "label 1 is empty"),
        ({"candidate_labels": ["\udc00"]}, 422, "surrogate"),
        ({"candidate_labels": ["a" * 501]}, 422, "over 500 characters"),
        ({"candidate_labels": ["a"] * 1001}, 413, "at most 1000"),
        ({"candidate_labels": ["a b " * 100]}, 413, "over 32 tokens"),
        ({"multi_label": "yes"}, 422, "multi_label must be true or false"),
        ({"multi_label": 1}, 422, "multi_label must be"),
        ({"hypothesis_template": "no place"}, 422, "must hold {} once"),
        ({"hypothesis_template": "{} and {}"}, 422, "must hold {} once"),
        ({"hypothesis_template": "{{}}"}, 422, "must hold {} once"),
        ({"hypothesis_template": "{0.__class__} {}"}, 422, "must hold {} once"),
        ({"hypothesis_template": None}, 422, "hypothesis_template is null"),
        ({"hypothesis_template": "{}" + "a" * 1000}, 422, "over 1000 characters"),
        ({"hypothesis_template": "a b " * 100 + "{}"}, 413, "over 32 tokens"),
        ({"text": "a " * 65_000, "candidate_labels": "a, b"}, 413, "at most 125000 characters"),
        ({"top_k": 1}, 422, "not known"),
        ({"text": 5}, 422, "a number"),
    ],
)
def test_wrong_requests_are_refused(service: Named, payload: Any, status: int, says: str) -> None:
    if isinstance(payload, dict):
        payload = {"text": "It works.", "candidate_labels": ["a"], **payload}
    got, answer = ask(service("bert_nli"), payload)
    assert (got, says in answer["error"]) == (status, True), answer


def test_an_artifact_without_its_facts_is_refused() -> None:
    with pytest.raises(ArtifactError, match="contradiction"):
        ZeroShotClassification(replace(BUNDLE, mode_options={"entailment": 0}))
