"""text-embeddings-inference's addresses, beside transformers and sentence-transformers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from tests.integration.helpers import close
from tests.serving.helpers import ask, post, read
from torchscript_bundle.serving.api.guards import refusal
from torchscript_bundle.serving.api.http import HttpRequest
from torchscript_bundle.serving.api.protocols import adapt_error, find_protocol
from torchscript_bundle.serving.api.protocols.call import Call
from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.modes.base import Mode
from torchscript_bundle.serving.service import Service

sentence_transformers = pytest.importorskip("sentence_transformers")

Named = Callable[[str], Service]

TEXTS = ["It works.", "Café, naïve: 你好 \U0001f600", "cold soup " * 60]


def asked(service: Service, path: str, **members: object) -> Any:
    status, answer = ask(service, members, path)
    assert status == 200, answer
    return answer


def refused(service: Service, path: str, value: object) -> tuple[int, str, str]:
    """Status, type and sentence of an error."""
    status, answer = ask(service, value, path)
    assert answer.keys() == {"error", "error_type"}, answer
    return status, answer["error_type"], answer["error"]


def test_embed_normalises_unless_told_otherwise(
    service: Named, checkpoint: Callable[[str], Path]
) -> None:
    oracle = sentence_transformers.SentenceTransformer(str(checkpoint("roberta_embedding")))
    oracle.max_seq_length = 64
    tiny = service("roberta_embedding")
    for how in ({}, {"normalize": None}, {"normalize": False}, {"prompt_name": "query"}):
        found = asked(tiny, "embed", inputs=TEXTS, truncate=True, **how)
        theirs = oracle.encode(
            TEXTS,
            prompt_name=how.get("prompt_name"),
            normalize_embeddings=how.get("normalize") is not False,
        )
        assert torch.allclose(torch.tensor(found), torch.as_tensor(theirs), atol=1e-5)
    [alone] = asked(tiny, "embed", inputs=TEXTS[0])
    assert alone == pytest.approx(asked(tiny, "embed", inputs=TEXTS)[0], abs=1e-5)


def test_rerank_gives_sigmoids_or_logits_best_first(service: Named) -> None:
    tiny = service("roberta_reranker")
    body = {"query": "soup", "texts": TEXTS}
    native = ask(tiny, {**body, "raw_scores": True})[1]
    found = asked(tiny, "rerank", **body, raw_scores=True, return_text=True, truncate=None)
    assert found == [
        {"index": each["index"], "text": TEXTS[each["index"]], "score": each["score"]}
        for each in native
    ]
    logits = torch.tensor([each["score"] for each in native])
    scores = [each["score"] for each in asked(tiny, "rerank", **body)]
    assert scores == pytest.approx(logits.sigmoid().tolist(), abs=1e-6)


def test_a_body_of_rerank_is_a_native_request_elsewhere(service: Named) -> None:
    body = {"query": "soup", "texts": TEXTS[:2], "return_text": True, "truncate": True}
    found = asked(service("bert_reranker"), "", **body)
    assert close(found, asked(service("bert_reranker"), "rerank", **body))


def test_predict_nests_as_the_inputs_do(service: Named) -> None:
    tiny = service("bert")

    def labels(*items: object) -> list[list[dict[str, Any]]]:
        found = ask(tiny, {"inputs": items, "top_k": None})[1]
        keys = ("score", "label")
        return [[{key: entry[key] for key in keys} for entry in answer] for answer in found]

    [one], [pair] = labels(TEXTS[0]), labels({"text": TEXTS[0], "text_pair": TEXTS[1]})
    assert [one, one, pair] == [
        asked(tiny, "predict", inputs=inputs) for inputs in (TEXTS[0], TEXTS[:1], TEXTS[:2])
    ]
    assert labels(*TEXTS) == asked(tiny, "predict", inputs=[[text] for text in TEXTS])
    raw = asked(tiny, "predict", inputs=TEXTS[0], raw_scores=True)
    softmax = torch.tensor([entry["score"] for entry in raw]).softmax(dim=0)
    assert softmax.tolist() == pytest.approx([entry["score"] for entry in one], abs=1e-6)


@pytest.mark.parametrize("name", ["bert_embedding", "roberta_embedding", "unigram_embedding"])
def test_tokenize_equals_the_models_own_tokenizer_and_cuts_nothing(
    service: Named, checkpoint: Callable[[str], Path], name: str
) -> None:
    own = AutoTokenizer.from_pretrained(checkpoint(name))
    for special in (True, False):
        found = asked(service(name), "tokenize", inputs=TEXTS, add_special_tokens=special)
        for text, tokens in zip(TEXTS, found, strict=True):
            assert [each["id"] for each in tokens] == own.encode(text, add_special_tokens=special)
            places = [(each["start"], each["stop"]) for each in tokens if not each["special"]]
            assert [text[start:stop] for start, stop in places] == [
                each["text"] for each in tokens if not each["special"]
            ]
            names = own.convert_ids_to_tokens([each["id"] for each in tokens])
            ends = [(each["text"], each["start"]) for each in tokens if each["special"]]
            assert ends == ([(names[0], None), (names[-1], None)] if special else [])
    [alone] = asked(service(name), "tokenize", inputs=TEXTS[0])
    assert len(alone) == len(own.encode(TEXTS[0]))
    # The next text is cut as ever.
    assert ask(service(name), {"text": TEXTS[2], "truncate": False})[0] == 413


def test_info_needs_no_body_and_is_about_the_model(service: Named) -> None:
    request = HttpRequest({"body": b""}, {}, path="info")
    found = {}
    for name in ("bert_embedding", "bert_reranker", "bert", "bert_qa"):
        [response] = service(name).answer([request])
        found[name] = read(response)
        assert response.status == 200
    assert [each["model_type"] for each in found.values()] == [
        {"embedding": {"pooling": "mean"}},
        {"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}},
        {
            "classifier": {
                "id2label": {"0": "SAD", "1": "SO-SO", "2": "GLAD"},
                "label2id": {"SAD": 0, "SO-SO": 1, "GLAD": 2},
            }
        },
        {"question_answering": {}},
    ]
    facts = found["bert_embedding"]
    assert (facts["max_input_length"], facts["model_dtype"]) == (64, "float32")
    assert (facts["max_client_batch_size"], facts["auto_truncate"]) == (64, True)


def test_embed_sparse_is_the_native_request_of_a_mode_that_offers_it(service: Named) -> None:
    fields = {"offers": {"sparse_embeddings": {}}, "parameters": {"truncate": None}}
    mode: Any = SimpleNamespace(**fields, item_keys={})
    body = {"inputs": ["a"], "truncate": True}
    call = find_protocol(body, mode.offers, path="embed_sparse").read(body, mode, "")
    assert isinstance(call, Call)
    assert (call.items, call.parameters) == ([{"text": "a"}], {"truncate": True})
    assert call.reply([[{"index": 3, "value": 0.5}]]) == [[{"index": 3, "value": 0.5}]]
    assert refused(service("bert_embedding"), "embed_sparse", {"inputs": "a"})[:2] == (
        424,
        "Backend",
    )


def test_errors_have_their_statuses_and_types(service: Named) -> None:
    tiny = service("bert_embedding")
    status, kind, said = refused(tiny, "embed", {"inputs": TEXTS, "truncate": False})
    assert (status, kind) == (413, "Validation")
    assert said.startswith("item 2 of the list: the text has more than 64 tokens")
    assert refused(tiny, "rerank", {"query": "a", "texts": ["a"]})[:2] == (424, "Backend")
    assert refused(tiny, "embed", {"inputs": []})[:2] == (422, "Validation")
    [response] = tiny.answer([replace(post(None), fields={"body": b"\xff"}, path="embed")])
    assert (response.status, read(response)["error_type"]) == (400, "Validation")


def test_an_overload_says_when_to_come_back() -> None:
    busy = refusal(RequestError(503, "the server is busy", retry_after=3))
    response = adapt_error(busy, "rerank")
    assert (response.status, response.headers) == (429, {"Retry-After": "3"})
    assert read(response) == {"error": "the server is busy", "error_type": "Overloaded"}


def test_neighbours_of_other_protocols_share_a_batch(service: Named) -> None:
    requests = [
        post({"inputs": TEXTS[0]}, path="embed"),
        post(TEXTS[0]),
        post({"input": [[1, 2]]}, path="embeddings"),
        post({"input": TEXTS[0]}, path="embeddings"),
    ]
    first, second, wrong, third = service("bert_embedding").answer(requests)
    assert (wrong.status, "token ids" in read(wrong)["error"]["message"]) == (400, True)
    vector = read(second)
    assert read(first) == [vector]
    assert read(third)["data"][0]["embedding"] == vector


def test_modes_without_offers_answer_about_themselves_alone(service: Named) -> None:
    mode: Mode = service("bert_qa")._own.mode
    assert mode.offers == {}
    assert asked(service("bert_qa"), "tokenize", inputs="soup")
    assert refused(service("bert_qa"), "predict", {"inputs": "a"})[0] == 424
