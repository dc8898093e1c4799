"""Sequence classification: what a request may say, and answers equal to transformers' own."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import pipeline

from tests.serving.helpers import BUNDLE, CPU, ask, change, post, raw, read
from torchscript_bundle.serving.modes.base import Computed
from torchscript_bundle.serving.modes.sequence_classification import SequenceClassification
from torchscript_bundle.serving.service import Service
from torchscript_bundle.serving.text.tokenizer import Row

Named = Callable[[str], Service]

TEXTS = [
    "The film was long.",
    "We waited an hour for cold soup, and nobody said sorry.",
    "CAFÉ, naïve, Übergröße!",
    "你好 \U0001f600 <s> [SEP]",
    "x",
    "It works as described; " * 30,
]


PAIRS = [
    ("The film was long.", "It works as described."),
    ("a", "cold soup " * 60),
    ("Not bad at all. " * 30, "a"),
    ("cold soup " * 40, "Not bad at all. " * 30),
    ("It works [SEP] </s>", "</s> [CLS] it does not"),
]


@pytest.fixture(scope="session")
def oracle(checkpoint: Callable[[str], Path]) -> Callable[[str], Any]:
    """A name of a checkpoint -> transformers' pipeline on it."""
    return cache(lambda name: pipeline("text-classification", model=str(checkpoint(name))))


@pytest.mark.parametrize(
    "name",
    [
        "bert",
        "bert_cut_left",
        "distilbert",
        "roberta",
        "fixed_length",
        "fixed_shape",
        "multi_label",
        "one_label",
        "regression",
    ],
)
def test_answers_equal_those_of_transformers(
    service: Named, oracle: Callable[[str], Any], name: str
) -> None:
    status, answers = ask(service(name), {"inputs": TEXTS, "top_k": None})
    assert status == 200
    for text, answer in zip(TEXTS, answers, strict=True):
        cut = {"truncated": True} if text == TEXTS[-1] else {}
        expected = oracle(name)(text, truncation=True, max_length=64, top_k=None)
        assert len(answer) == len(expected)
        for entry, other in zip(answer, expected, strict=True):
            assert entry == {**other, **cut, "score": pytest.approx(other["score"], abs=1e-5)}


@pytest.mark.parametrize("name", ["bert", "multi_label", "regression"])
def test_raw_scores_are_the_logits(service: Named, oracle: Callable[[str], Any], name: str) -> None:
    _, answers = ask(service(name), {"inputs": TEXTS[:4], "top_k": None, "raw_scores": True})
    for text, answer in zip(TEXTS, answers, strict=False):
        expected = oracle(name)(text, top_k=None, function_to_apply="none")
        assert [entry["label"] for entry in answer] == [entry["label"] for entry in expected]
        scores = [entry["score"] for entry in expected]
        assert [entry["score"] for entry in answer] == pytest.approx(scores, abs=1e-4)


@pytest.mark.parametrize("name", ["bert", "bert_cut_left"])
def test_either_end_of_a_text_is_cut_or_none(service: Named, name: str) -> None:
    words = TEXTS[-1] + TEXTS[1]
    own = "left" if name == "bert_cut_left" else "right"
    answers = {
        side: ask(service(name), {"text": words, "truncation_direction": side})[1]
        for side in ("right", "left")
    }
    assert answers["right"] != answers["left"]
    assert answers[own] == ask(service(name), words)[1]
    status, answer = ask(service(name), {"text": words, "truncate": False})
    assert (status, "truncate is false" in answer["error"]) == (413, True)


@pytest.mark.parametrize(
    "name", ["bert", "bert_cut_left", "distilbert", "roberta", "fixed_length", "bart", "convbert"]
)
def test_answers_to_pairs_equal_those_of_transformers(
    service: Named, oracle: Callable[[str], Any], name: str
) -> None:
    items = [{"text": text, "text_pair": pair} for text, pair in PAIRS]
    status, answers = ask(service(name), {"inputs": items, "top_k": None})
    assert status == 200
    tokenizer = oracle(name).tokenizer
    assert len({str(answer) for answer in answers}) == len(PAIRS)
    for item, answer in zip(items, answers, strict=True):
        over = len(tokenizer(*item.values())["input_ids"]) > 64
        cut = {"truncated": True} if over else {}
        expected = oracle(name)(item, truncation=True, max_length=64, top_k=None)
        assert len(answer) == len(expected)
        for entry, other in zip(answer, expected, strict=True):
            assert entry == {**other, **cut, "score": pytest.approx(other["score"], abs=1e-5)}


def test_pair_is_another_input_than_its_text(service: Named) -> None:
    pair = {"text": TEXTS[0], "text_pair": TEXTS[1]}
    status, alone = ask(service("bert"), TEXTS[0])
    assert status == 200
    for payload in (pair, {"inputs": pair}, {"data": pair}):
        status, answer = ask(service("bert"), payload)
        assert status == 200
        assert sorted(answer) == ["label", "score"]
        assert answer["score"] != pytest.approx(alone["score"], abs=1e-3)
    assert ask(service("bert"), {"inputs": {"text": TEXTS[0]}}) == (200, alone)


def test_pair_that_is_too_long_can_be_an_error(
    artifact: Callable[[str], Path], tmp_path: Path
) -> None:
    strict = Service(change(artifact("bert"), tmp_path, config={"on_too_long": "error"}), CPU)
    assert ask(strict, {"text": "a " * 30, "text_pair": "b " * 31})[0] == 200
    status, answer = ask(strict, [{"text": "a " * 31, "text_pair": "b " * 31}])
    assert (status, answer["error"]) == (
        413,
        "item 0 of the list: the text has 65 tokens; send at most 64 (special tokens included)",
    )


def test_single_text_gets_the_best_label_alone(
    service: Named, oracle: Callable[[str], Any]
) -> None:
    [best] = oracle("bert")(TEXTS[0], truncation=True, max_length=64)
    expected = {"label": best["label"], "score": pytest.approx(best["score"], abs=1e-5)}
    for payload in (TEXTS[0], *({key: TEXTS[0]} for key in ("text", "inputs", "data"))):
        assert ask(service("bert"), payload) == (200, expected)
    assert ask(service("bert"), TEXTS[:1]) == (200, [expected])
    [response] = service("bert").answer([raw(TEXTS[0].encode())])
    assert read(response) == expected


@pytest.mark.parametrize("where", ["top level", "parameters"])
@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (2, 2), (3, 3), (10**30, 3), (None, 3)])
def test_top_k_gives_the_best_labels_in_order(
    service: Named, where: str, top_k: int | None, count: int
) -> None:
    option = {"top_k": top_k} if where == "top level" else {"parameters": {"top_k": top_k}}
    everything = ask(service("bert"), {"text": TEXTS[0], "top_k": 3})[1]
    assert {entry["label"] for entry in everything} == {"SAD", "SO-SO", "GLAD"}
    assert sum(entry["score"] for entry in everything) == pytest.approx(1)
    assert everything == sorted(everything, key=lambda entry: -entry["score"])
    assert ask(service("bert"), {"text": TEXTS[0], **option}) == (200, everything[:count])
    assert ask(service("bert"), {"text": [TEXTS[0]], **option}) == (200, [everything[:count]])


def test_without_top_k_a_list_gets_a_flat_list(service: Named) -> None:
    status, answers = ask(service("bert"), {"text": TEXTS[:2], "parameters": {}})
    assert (status, [sorted(answer) for answer in answers]) == (200, [["label", "score"]] * 2)


@pytest.mark.parametrize("top_k", [0, -1, True, False, "2", 1.5, 1.0, [1], {}])
@pytest.mark.parametrize("where", ["top level", "parameters"])
def test_top_k_that_is_no_number_of_labels_is_refused(
    service: Named, top_k: object, where: str
) -> None:
    option = {"top_k": top_k} if where == "top level" else {"parameters": {"top_k": top_k}}
    status, answer = ask(service("bert"), {"text": "a", **option})
    assert (status, "top_k must be a whole number" in answer["error"]) == (422, True)


def test_top_k_twice_is_refused(service: Named) -> None:
    payload = {"text": "a", "top_k": 1, "parameters": {"top_k": 2}}
    status, answer = ask(service("bert"), payload)
    assert (status, "twice" in answer["error"]) == (422, True)


def test_top_k_out_of_the_range_of_a_float_is_refused(service: Named) -> None:
    [response] = service("bert").answer([raw(b'{"text": "a", "top_k": 1e999}')])
    assert response.status == 422


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (None, "null"),
        (True, "a boolean"),
        (5, "a number"),
        ([], "empty"),
        ("", "empty"),
        ([None], "item 0 of the list: the text is null"),
        ({}, 'send one input: an object with "text", "text_pair", or the same under "inputs"'),
        ({"top_k": 1}, 'send one input: an object with "text", "text_pair"'),
        ({"text": "a", "inputs": "b"}, "send one input"),
        ({"text": 5}, "a number"),
        ({"text": {"text": "a", "secret": "b"}}, 'known are "text", "text_pair"'),
        ({"text": ["a", {"secret": "b"}]}, "item 1 of the list: the object has a key"),
        ({"text": ["a", ["b"]]}, "item 1 of the list: the text is a list"),
        (["a", {"text": 5}], "item 1 of the list: the text is a number"),
        ({"text_pair": "a"}, 'the input has no text; send {"text": "..."}'),
        ({"text": "a", "text_pair": None}, "text_pair is null; send a string"),
        ({"text": "a", "text_pair": " "}, "text_pair is empty; send at least one word"),
        ({"text": "", "text_pair": "a"}, "the text is empty"),
        ({"text": ["a"], "text_pair": ["b"]}, "the text is a list; send a string"),
        ({"text": "a", "text_pair": "\ud800"}, "text_pair has half of a surrogate pair"),
        ({"text": "\ud800"}, "surrogate"),
        (
            {"text": "a", "secret": 1},
            '"data", "top_k", "raw_scores", "truncate", "truncation_direction", "parameters"',
        ),
        ({"text": "a", "Top_K": 1}, "not known"),
        ({"text": "a", "parameters": {"secret": 1}}, '"parameters.top_k"'),
        ({"text": "a", "parameters": None}, "parameters must be an object"),
        ({"text": "a", "parameters": [1]}, "parameters must be an object"),
    ],
)
def test_payload_of_another_form_is_refused(service: Named, payload: object, says: str) -> None:
    status, answer = ask(service("bert"), payload)
    assert status == 422
    assert says in answer["error"]
    assert "secret" not in answer["error"]


def test_truncation_is_told_with_every_label(service: Named) -> None:
    cut, whole = ask(service("bert"), {"text": [TEXTS[-1], "x"], "top_k": 2})[1]
    assert [entry["truncated"] for entry in cut] == [True, True]
    assert not any("truncated" in entry for entry in whole)


def test_labels_that_tie_come_in_the_order_of_the_model() -> None:
    mode = SequenceClassification(BUNDLE)
    text = Computed(Row([2, 3], [0, 0], False, False), (torch.zeros(3),))
    answer = mode.encode(mode.decode("a", {"top_k": None}), [[text]])
    assert [entry["label"] for entry in answer] == ["SAD", "SO-SO", "GLAD"]


def test_plain_text_of_many_labels_for_many_texts(service: Named) -> None:
    payload = {"text": TEXTS[:2], "top_k": None}
    full, bare = service("bert").answer([post(payload), post(payload, accept="text/plain")])
    labels = [entry["label"] for answer in read(full) for entry in answer]
    assert bare.body.decode().split("\n") == labels
