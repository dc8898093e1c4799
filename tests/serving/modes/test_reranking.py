"""Reranking: scores and order equal to CrossEncoder's own, and what a request may say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.serving.helpers import BUNDLE, ask, change, post, raw, read
from torchscript_bundle.serving.errors import ArtifactError
from torchscript_bundle.serving.modes.base import Computed
from torchscript_bundle.serving.modes.reranking import Reranking
from torchscript_bundle.serving.service import Service
from torchscript_bundle.serving.text.tokenizer import Row

sentence_transformers = pytest.importorskip("sentence_transformers")

Named = Callable[[str], Service]

NAMES = ("bert_reranker", "roberta_reranker", "unigram_reranker")
QUERIES = ["How long?", "你好 \U0001f600 <s> [SEP]", "a cold soup " * 20]
PASSAGES = [
    "The film was long and the ending was a surprise to all of us.",
    "x",
    "CAFÉ, naïve, Übergröße!",
    "\u200b .",
    "  leading, double  and trailing \t\n",
    "We waited an hour for cold soup. " * 20,
    "It works as described; the battery lasts two days.",
    "e\u0301 ﬁne \U0001f468\u200d\U0001f469\u200d\U0001f467",
]


@pytest.fixture(scope="session")
def oracle(checkpoint: Callable[[str], Path]) -> Callable[[str], Any]:
    """A name of a checkpoint -> sentence-transformers' CrossEncoder of it, cutting as ours does."""

    @cache
    def load(name: str) -> Any:
        model = sentence_transformers.CrossEncoder(str(checkpoint(name)), device="cpu")
        model.max_seq_length = 64
        return model

    return load


@pytest.mark.parametrize("raw_scores", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_scores_and_order_equal_those_of_cross_encoder(
    service: Named, oracle: Callable[[str], Any], name: str, raw_scores: bool
) -> None:
    items = [{"query": query, "passages": PASSAGES} for query in QUERIES]
    status, answers = ask(service(name), {"inputs": items, "raw_scores": raw_scores})
    assert status == 200
    identity = torch.nn.Identity() if raw_scores else None
    for query, answer in zip(QUERIES, answers, strict=True):
        scores = oracle(name).predict([(query, p) for p in PASSAGES], activation_fn=identity)
        ranked = oracle(name).rank(query, PASSAGES, activation_fn=identity)
        assert sorted(entry["index"] for entry in answer) == list(range(len(PASSAGES)))
        for entry, other in zip(answer, ranked, strict=True):
            assert entry["score"] == pytest.approx(float(scores[entry["index"]]), abs=1e-5)
            assert entry["score"] == pytest.approx(other["score"], abs=1e-5)


def test_long_pairs_say_that_they_were_cut(service: Named) -> None:
    _, answer = ask(service("bert_reranker"), {"query": "soup", "passages": PASSAGES})
    assert [entry["index"] for entry in answer if "truncated" in entry] == [5]


@pytest.mark.parametrize("key", ["passages", "texts"])
@pytest.mark.parametrize("wrap", [dict, lambda item: {"inputs": item}, lambda item: {"data": item}])
def test_forms_of_one_item(service: Named, key: str, wrap: Callable[[Any], Any]) -> None:
    _, expected = ask(service("bert_reranker"), {"query": "soup", "passages": PASSAGES})
    status, answer = ask(service("bert_reranker"), wrap({"query": "soup", key: PASSAGES}))
    assert (status, answer) == (200, expected)


def test_instances_get_predictions(service: Named) -> None:
    item = {"query": "soup", "passages": PASSAGES[:3]}
    status, answer = ask(service("bert_reranker"), {"instances": [item, item]})
    assert (status, list(answer)) == (200, ["predictions"])
    first, second = answer["predictions"]
    assert [each["index"] for each in first] == [each["index"] for each in second]
    scores = [each["score"] for each in first]
    assert scores == pytest.approx([each["score"] for each in second], abs=1e-5)


def test_top_n_and_documents(service: Named) -> None:
    item = {"query": "soup", "passages": PASSAGES}
    everything = ask(service("bert_reranker"), item)[1]
    payload = {"inputs": item, "parameters": {"top_n": 2, "return_documents": True}}
    best = ask(service("bert_reranker"), payload)[1]
    assert [entry.pop("text") for entry in best] == [PASSAGES[e["index"]] for e in everything[:2]]
    assert best == everything[:2]
    assert ask(service("bert_reranker"), {**item, "top_n": 10_000})[1] == everything
    [plain] = service("bert_reranker").answer([post(item, accept="text/plain")])
    assert plain.body.decode() == " ".join(str(entry["index"]) for entry in everything)


def test_requests_share_a_batch_and_keep_to_themselves(service: Named) -> None:
    good = post({"query": "soup", "passages": PASSAGES[:4]})
    bad = post({"query": "soup", "passages": ["a", ""]})
    responses = service("roberta_reranker").answer([good, bad, raw(b"text"), good])
    assert [response.status for response in responses] == [200, 422, 422, 200]
    for one, other in zip(read(responses[0]), read(responses[3]), strict=True):
        # Rows of the two may be in passes of different sizes, which round otherwise.
        assert one == {**other, "score": pytest.approx(other["score"], abs=1e-5)}


def test_ties_keep_the_order_of_the_passages_and_saturated_scores_that_of_logits() -> None:
    mode = Reranking(replace(BUNDLE, mode_options={"activation": "sigmoid"}))
    query = mode.decode({"query": "a", "passages": ["b", "c", "d", "e"]}, {})
    row = Row([2, 3], [0, 0], False, False)
    logits = (50.0, 60.0, 50.0, -1.0)
    computed = [[Computed(row, (torch.tensor([logit]),))] for logit in logits]
    answer = mode.encode(query, computed)
    assert [entry["index"] for entry in answer] == [1, 0, 2, 3]
    assert [entry["score"] for entry in answer[:3]] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("payload", "status", "says"),
    [
        ("text", 422, "send {"),
        (["text"], 422, "item 0 of the list: the input is a string; send {"),
        ({"query": "a"}, 422, "send {"),
        ({"passages": ["a"]}, 422, "the input has no query"),
        ({"query": "a", "passages": ["b"], "texts": ["b"]}, 422, "send one of them"),
        ({"query": "a", "passages": []}, 422, "empty"),
        (
            {"query": "a", "passages": "b"},
            422,
            "passages must be a list of 1 to 10000 strings, and is a",
        ),
        ({"query": "a", "passages": None}, 422, "and is null"),
        ({"query": "a", "passages": {"b": "c"}}, 422, "and is an object"),
        ({"query": "a", "passages": ["b", ["c"]]}, 422, "passage 1 is a list"),
        ({"query": "a", "passages": ["b", " "]}, 422, "passage 1 is empty"),
        ({"query": "a", "passages": ["\ud800"]}, 422, "surrogate"),
        ({"query": 1, "passages": ["b"]}, 422, "query is a number"),
        ({"query": "", "passages": ["b"]}, 422, "query is empty"),
        ({"query": "a", "passages": ["b"], "secret": 1}, 422, "not known"),
        ({"query": "a", "passages": ["b"], "top_n": 0}, 422, "top_n must be"),
        ({"query": "a", "passages": ["b"], "top_n": True}, 422, "top_n must be"),
        ({"query": "a", "passages": ["b"], "top_n": 10**30}, 422, "top_n must be"),
        ({"query": "a", "passages": ["b"], "top_n": None}, 422, "top_n must be"),
        ({"query": "a", "passages": ["b"], "return_documents": 1}, 422, "return_documents must"),
        ({"query": "a", "passages": ["b"], "raw_scores": "no"}, 422, "raw_scores must"),
        ({"query": "a", "passages": ["b"] * 65}, 413, "at most 64"),
        ({"query": "a", "passages": ["b"] * 10_001}, 413, "at most"),
        ({"query": "a " * 9_000, "passages": ["b " * 9_000]}, 413, "a shorter query"),
        ({"query": "a " * 9_000, "passages": ["b"] * 64}, 413, "a shorter query"),
        ([{"query": "a", "passages": ["b"] * 40}] * 2, 413, "64"),
    ],
)
def test_wrong_requests_are_refused(
    service: Named, payload: object, status: int, says: str
) -> None:
    answered, answer = ask(service("bert_reranker"), payload)
    assert (answered, says in answer["error"]) == (status, True), answer
    assert "secret" not in answer["error"]


def test_an_artifact_without_its_activation_is_refused(
    artifact: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = change(artifact("bert_reranker"), tmp_path / "a", bundle={"mode_options": {}})
    with pytest.raises(ArtifactError, match="activation"):
        Service(folder, torch.device("cpu"))
