"""Reranking as Cohere and Jina have it: relevance from 0 to 1, beside CrossEncoder's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.serving.helpers import CPU, ask
from torchscript_bundle.serving.api.protocols.cohere_rerank import sigmoid
from torchscript_bundle.serving.service import Service

sentence_transformers = pytest.importorskip("sentence_transformers")

Named = Callable[[str], Service]

QUERY = "How long does it last?"
TEXTS = ["It lasts two days.", "The film was long.", "cold soup " * 60, "x"]
ADDRESSES = ("v1/rerank", "v2/rerank", "rerank", "")


def rerank(service: Service, path: str = "v2/rerank", **members: object) -> Any:
    status, answer = ask(service, {"query": QUERY, "documents": TEXTS, **members}, path)
    assert status == 200, answer
    return answer


@pytest.mark.parametrize("name", ["bert_reranker", "roberta_reranker"])
def test_relevance_is_the_sigmoid_of_the_logit(
    service: Named, checkpoint: Callable[[str], Path], name: str
) -> None:
    """Also of a model whose own scores are logits."""
    oracle = sentence_transformers.CrossEncoder(str(checkpoint(name)), device="cpu")
    oracle.max_seq_length = 64
    expected = oracle.rank(QUERY, TEXTS, activation_fn=torch.nn.Sigmoid())
    results = rerank(service(name))["results"]
    assert [each["index"] for each in results] == [each["corpus_id"] for each in expected]
    scores = [float(each["score"]) for each in expected]
    assert [each["relevance_score"] for each in results] == pytest.approx(scores, abs=1e-6)


@pytest.mark.parametrize("path", ADDRESSES)
def test_documents_are_texts_or_objects_and_come_back_on_demand(service: Named, path: str) -> None:
    objects = [{"text": text} for text in TEXTS]
    answer = rerank(
        service("bert_reranker"), path, documents=objects, top_n=2, return_documents=True
    )
    plain = rerank(service("bert_reranker"), path)
    assert answer["usage"] == plain["usage"]
    assert answer["usage"]["total_tokens"] > len(TEXTS)
    expected = [
        {**each, "document": {"text": TEXTS[each["index"]]}} for each in plain["results"][:2]
    ]
    assert answer["results"] == expected
    assert all(each.keys() == {"index", "relevance_score"} for each in plain["results"])


def test_fields_that_ask_for_nothing(service: Named) -> None:
    nothing = {"max_tokens_per_doc": None, "rank_fields": ["text"], "priority": 7, "top_n": None}
    assert rerank(service("bert_reranker"), **nothing)["results"]


def test_errors_are_cohere_s(artifact: Callable[[str], Path], service: Named) -> None:
    named = Service(artifact("bert_reranker"), CPU, "reranker")
    body = {"query": QUERY, "documents": TEXTS, "model": "rerank-v3.5"}
    said = {"message": "this address serves reranker; send that as model"}
    assert ask(named, body, "v1/rerank") == (404, said)
    status, answer = ask(service("bert_embedding"), {}, "v2/rerank")
    assert (status, answer["message"].startswith("this model ranks no texts; ")) == (404, True)


def test_sigmoid_of_any_number() -> None:
    for logit in (-1e308, -800.0, -3.5, 0.0, 2.25, 700.0, 1e308):
        assert sigmoid(logit) == pytest.approx(torch.tensor(logit).double().sigmoid().item())
