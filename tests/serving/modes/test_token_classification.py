"""Token classification: entities equal to those of transformers' own pipeline."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import pipeline

from tests.serving.helpers import ask, change, post, raw, read
from torchscript_bundle.serving.modes.entities import Entity, group, merge_overlapping
from torchscript_bundle.serving.service import Service

Named = Callable[[str], Service]

NAMES = ["bert_ner", "roberta_ner", "unigram_ner"]
GROUPED = ["simple", "first", "average", "max"]
TEXTS = [
    "The film was long.",
    "We waited an hour for cold soup, and nobody said sorry; not bad at all!",
    "CAFÉ, naïve, Übergröße: e\u0301 \ufb01ne İstanbul",
    "你好，世界 \U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 here \u200b zero",
    "<s> [SEP] literal [UNK] <unk> tokens",
    "  leading,  double \t tab\nline  ",
    "x",
    "don't 3.14159 user@example.com",
]
LONG = [
    "It works as described; the battery lasts two days. " * 12,
    "Café \U0001f600 in Übergröße with my family 你好 " * 9,
]


@pytest.fixture(scope="session")
def oracle(checkpoint: Callable[[str], Path]) -> Callable[[str], Any]:
    """A name of a checkpoint -> transformers' pipeline on it, with windows of 64 tokens."""

    @cache
    def make(name: str) -> Any:
        made = pipeline("token-classification", model=str(checkpoint(name)))
        made.tokenizer.model_max_length = 64
        return made

    return make


def expected(oracle: Any, text: str, **parameters: Any) -> list[dict[str, Any]]:
    """What the pipeline says, scores as near as float32 allows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # words of a tokenizer that marks none
        entities = oracle(text, **parameters)
    return [{**each, "score": pytest.approx(float(each["score"]), abs=1e-5)} for each in entities]


@pytest.mark.parametrize("ignored", [None, [], ["O", "MISC"]])
@pytest.mark.parametrize("strategy", ["none", *GROUPED])
@pytest.mark.parametrize("name", NAMES)
def test_entities_equal_those_of_transformers(
    service: Named, oracle: Callable[[str], Any], name: str, strategy: str, ignored: Any
) -> None:
    parameters = {"aggregation_strategy": strategy}
    if ignored is not None:
        parameters["ignore_labels"] = ignored
    status, answers = ask(service(name), {"inputs": TEXTS, "parameters": parameters})
    assert status == 200
    assert any(answers)
    for text, answer in zip(TEXTS, answers, strict=True):
        assert answer == expected(oracle(name), text, **parameters)


@pytest.mark.parametrize("stride", [0, 1, 7, 31])
@pytest.mark.parametrize("strategy", GROUPED)
@pytest.mark.parametrize("name", NAMES)
def test_windows_merge_as_those_of_transformers(
    service: Named, oracle: Callable[[str], Any], name: str, strategy: str, stride: int
) -> None:
    texts = [*LONG, TEXTS[0]]
    for ignored in (["O"], []):
        parameters = {
            "aggregation_strategy": strategy,
            "stride": stride,
            "ignore_labels": ignored,
        }
        status, answers = ask(service(name), {"inputs": texts, "parameters": parameters})
        assert status == 200
        for text, answer in zip(texts, answers, strict=True):
            assert answer == expected(oracle(name), text, **parameters)


def test_long_text_is_read_to_its_end_by_default(
    service: Named, oracle: Callable[[str], Any]
) -> None:
    _, answer = ask(service("bert_ner"), {"text": LONG[0], "ignore_labels": []})
    assert answer[-1]["end"] == len(LONG[0].rstrip())
    assert answer == expected(
        oracle("bert_ner"), LONG[0], aggregation_strategy="simple", stride=15, ignore_labels=[]
    )


def test_requests_with_other_parameters_share_a_batch(service: Named) -> None:
    payloads = [
        TEXTS[1],
        {"text": TEXTS[1], "aggregation_strategy": "none"},
        {"inputs": [TEXTS[1], LONG[0]], "parameters": {"stride": 3}},
        {"text": ""},
        {"instances": [{"text": TEXTS[1]}], "parameters": {"ignore_labels": []}},
    ]
    together = service("bert_ner").answer([post(payload) for payload in payloads])
    for payload, response in zip(payloads, together, strict=True):
        status, alone = ask(service("bert_ner"), payload)
        assert response.status == status
        assert _rounded(read(response)) == _rounded(alone)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return pytest.approx(value, abs=1e-5)
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return {k: _rounded(v) for k, v in value.items()} if isinstance(value, dict) else value


def test_plain_text_is_a_line_for_each_text(service: Named) -> None:
    full, bare = service("bert_ner").answer([post(TEXTS[:2]), post(TEXTS[:2], accept="text/plain")])
    lines = [
        ", ".join(f"{each['word']} ({each['entity_group']})" for each in answer)
        for answer in read(full)
    ]
    assert bare.body.decode().split("\n") == lines
    [response] = service("bert_ner").answer([raw(TEXTS[0].encode())])
    assert read(response) == ask(service("bert_ner"), TEXTS[0])[1]


@pytest.mark.parametrize(
    ("payload", "status", "says"),
    [
        ({"text": "a", "aggregation_strategy": "secret"}, 422, "none, simple, first, average, max"),
        ({"text": "a", "aggregation_strategy": None}, 422, "none, simple"),
        ({"text": "a", "aggregation_strategy": ["simple"]}, 422, "none, simple"),
        ({"text": "a", "stride": -1}, 422, "from 0 to 31"),
        ({"text": "a", "stride": 32}, 422, "from 0 to 31"),
        ({"text": "a", "stride": True}, 422, "from 0 to 31"),
        ({"text": "a", "stride": "3"}, 422, "from 0 to 31"),
        ({"text": "a", "stride": 3, "aggregation_strategy": "none"}, 422, "stride needs another"),
        ({"text": "a", "ignore_labels": "O"}, 422, "must be a list"),
        ({"text": "a", "ignore_labels": None}, 422, "must be a list"),
        ({"text": "a", "ignore_labels": [["O"]]}, 422, "must be a list"),
        ({"text": "a", "ignore_labels": ["B-PER"]}, 422, "LOC, MISC, O, PER"),
        ({"text": "a", "ignore_labels": ["PER"], "aggregation_strategy": "none"}, 422, "B-PER"),
        ({"text": LONG[0], "aggregation_strategy": "none"}, 413, "more than 64 tokens"),
        (["a", 5], 422, "item 1 of the list"),
        ({"text": "a", "secret": 1}, 422, "not known"),
        ({"text": "a " * 5000}, 413, "windows"),
    ],
)
def test_wrong_requests_get_a_sentence(
    service: Named, payload: object, status: int, says: str
) -> None:
    got, answer = ask(service("bert_ner"), payload)
    assert (got, says in answer["error"]) == (status, True), answer
    assert "secret" not in answer["error"]


def test_items_that_are_too_long_are_named(service: Named) -> None:
    payload = {"text": ["a", LONG[0]], "aggregation_strategy": "none"}
    status, answer = ask(service("bert_ner"), payload)
    assert (status, answer["error"].startswith("item 1 of the list: ")) == (413, True)


def test_a_text_over_max_length_is_windowed_whatever_the_config_says(
    artifact: Callable[[str], Path], service: Named, tmp_path: Path
) -> None:
    folder = change(artifact("bert_ner"), tmp_path / "strict", config={"on_too_long": "error"})
    strict = Service(folder, torch.device("cpu"))
    (status, found), (_, expected) = ask(strict, LONG[0]), ask(service("bert_ner"), LONG[0])
    # Each service cuts batches by costs it measured itself: scores may differ by rounding.
    assert (status, _rounded(expected)) == (200, found)


def test_of_overlapping_entities_the_longest_stays() -> None:
    def entity(start: int, end: int, score: float = 0.5) -> Entity:
        return Entity("PER", score, "", start, end)

    short, long, surer, apart = entity(0, 3), entity(0, 5), entity(1, 6, 0.9), entity(6, 9)
    assert merge_overlapping([apart, short, long]) == [long, apart]
    assert merge_overlapping([long, surer]) == [surer]
    assert merge_overlapping([surer, long]) == [surer]
    assert merge_overlapping([]) == []


def test_only_b_and_i_mark_where_an_entity_begins() -> None:
    """As docs/requests.md tells of other schemes, and as transformers' get_tag has it."""

    def grouped(*labels: str) -> list[tuple[int, int]]:
        entities = [Entity(label, 0.5, "", at, at + 1) for at, label in enumerate(labels)]
        found = group(entities, lambda label: label.split("-", 1)[-1], " ".join)
        assert {entity.name for entity in found} == {"PER"}
        return [(entity.start, entity.end) for entity in found]

    assert grouped("B-PER", "I-PER", "B-PER") == [(0, 2), (2, 3)]
    assert grouped("B-PER", "I-PER", "E-PER") == [(0, 2), (2, 3)]
    assert grouped("S-PER", "S-PER") == [(0, 2)]


def test_words_of_sentencepiece_are_joined_without_a_space(service: Named) -> None:
    """As docs/requests.md tells, and as transformers' pipeline has it (above)."""
    _, answers = ask(service("unigram_ner"), {"text": TEXTS[0], "ignore_labels": []})
    _, words = ask(
        service("unigram_ner"),
        {"text": TEXTS[0], "ignore_labels": [], "aggregation_strategy": "first"},
    )
    assert any(TEXTS[0][each["start"]] == " " for each in answers)
    assert not any(" " in each["word"] for each in words)
