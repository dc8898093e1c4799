"""Feature extraction: vectors equal to sentence-transformers' own, and what a request may say."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from demo.start import ENCODER_PACKAGE, encoder_folder
from tests.export.helpers import config_for
from tests.serving.helpers import ask, change, post, read
from torchscript_bundle.export.exporter import export
from torchscript_bundle.serving.errors import ArtifactError
from torchscript_bundle.serving.service import Service

sentence_transformers = pytest.importorskip("sentence_transformers")

Named = Callable[[str], Service]

NAMES = ("bert_embedding", "roberta_embedding", "unigram_embedding", "llama_embedding")
WORDS = [
    *["The", "film", "was", "long", "and", "the", "ending", "a", "surprise.", "don't", "3.14"],
    *["Café,", "naïve,", "ÜBERGRÖSSE!", "你好，世界", "привет", "<s>", "[SEP]"],
    *["\U0001f600", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "e\u0301", "\u200b"],
]
TEXTS = [
    ".",
    "x",
    "\u200b",
    "  leading, double  and trailing \t\n",
    *(" ".join(WORDS[at : at + size]) for size in (1, 2, 5, 9) for at in range(12)),
    *(" ".join((WORDS * 20)[at : at + 40 * at]) for at in range(1, 8)),
]


@pytest.fixture(scope="session")
def oracle(checkpoint: Callable[[str], Path]) -> Callable[[str], Any]:
    """A name of a checkpoint -> sentence-transformers' model of it, which cuts as ours does."""

    @cache
    def load(name: str) -> Any:
        model = sentence_transformers.SentenceTransformer(str(checkpoint(name)), device="cpu")
        model.max_seq_length = 64
        return model

    return load


def vectors(service: Service, value: object) -> torch.Tensor:
    """*Shape:* `[texts, dim]`, in float64."""
    status, answers = ask(service, value)
    assert status == 200, answers
    return torch.tensor(answers, dtype=torch.float64)


def equal(ours: torch.Tensor, theirs: Any) -> bool:
    """Within rounding of float32, in direction and in length."""
    other = torch.as_tensor(theirs, dtype=torch.float64)
    return torch.allclose(ours, other, rtol=1e-5, atol=1e-5 * other.abs().max().item())


@pytest.mark.parametrize("name", NAMES)
def test_vectors_equal_those_of_sentence_transformers(
    service: Named, oracle: Callable[[str], Any], name: str
) -> None:
    """In batches of mixed lengths on both sides."""
    ours = torch.cat([vectors(service(name), TEXTS[at::2]) for at in (0, 1)])
    theirs = oracle(name).encode(TEXTS[0::2] + TEXTS[1::2], batch_size=16)
    assert equal(ours, theirs)


@pytest.mark.parametrize(
    ("name", "prompt_name"),
    [("roberta_embedding", "query"), ("unigram_embedding", "query")],
)
def test_prompts_equal_those_of_sentence_transformers(
    service: Named, oracle: Callable[[str], Any], name: str, prompt_name: str
) -> None:
    payload = {"inputs": TEXTS[:20], "parameters": {"prompt_name": prompt_name}}
    theirs = oracle(name).encode(TEXTS[:20], prompt_name=prompt_name)
    assert equal(vectors(service(name), payload), theirs)
    assert not equal(vectors(service(name), TEXTS[:20]), theirs)


def test_vectors_can_be_normalised_on_demand(service: Named, oracle: Callable[[str], Any]) -> None:
    ours = vectors(service("roberta_embedding"), {"inputs": TEXTS, "normalize": True})
    assert equal(ours, oracle("roberta_embedding").encode(TEXTS, normalize_embeddings=True))
    assert not equal(ours, vectors(service("roberta_embedding"), TEXTS))


@pytest.mark.parametrize("name", ["bert_embedding", "roberta_embedding"])
@pytest.mark.parametrize("dimensions", [1, 7, 32])
def test_shortened_vectors_equal_those_of_sentence_transformers(
    service: Named, oracle: Callable[[str], Any], name: str, dimensions: int
) -> None:
    """Normalised again where the model normalises, or the request does."""
    own = name == "bert_embedding"
    for normalize in {own, True}:
        payload = {"inputs": TEXTS[:20], "dimensions": dimensions, "normalize": normalize}
        theirs = oracle(name).encode(
            TEXTS[:20], truncate_dim=dimensions, normalize_embeddings=normalize
        )
        assert equal(vectors(service(name), payload), theirs)


@pytest.mark.parametrize("name", ["bert_embedding", "roberta_embedding"])
def test_either_end_of_a_text_can_be_cut(
    service: Named, oracle: Callable[[str], Any], checkpoint: Callable[[str], Path], name: str
) -> None:
    words = " ".join(WORDS * 9)
    left = sentence_transformers.SentenceTransformer(str(checkpoint(name)), device="cpu")
    left.max_seq_length = 64
    left.tokenizer.truncation_side = "left"
    payload = {"inputs": [words, "short"], "truncation_direction": "left"}
    assert equal(vectors(service(name), payload), left.encode([words, "short"]))
    payload["truncation_direction"] = "right"
    ours, theirs = vectors(service(name), payload), oracle(name).encode([words, "short"])
    assert equal(ours, theirs)
    assert not equal(ours, left.encode([words, "short"]))


def test_real_weights_equal_those_of_sentence_transformers(tmp_path: Path) -> None:
    pytest.importorskip(ENCODER_PACKAGE)
    folder = encoder_folder()
    export(config_for(tmp_path, folder, mode="feature_extraction"), tmp_path / "artifact")
    oracle = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    oracle.max_seq_length = 16
    ours = vectors(Service(tmp_path / "artifact", torch.device("cpu")), TEXTS)
    theirs = torch.as_tensor(oracle.encode(TEXTS), dtype=torch.float64)
    assert torch.cosine_similarity(ours, theirs).min() > 0.9999999


def test_one_text_gets_the_vector_itself(service: Named) -> None:
    status, vector = ask(service("bert_embedding"), "It works.")
    assert (status, len(vector)) == (200, 32)
    for payload in ({"text": "It works."}, {"inputs": "It works.", "normalize": True}):
        assert ask(service("bert_embedding"), payload) == (200, vector)
    assert ask(service("bert_embedding"), {"instances": [{"text": "It works."}]}) == (
        200,
        {"predictions": [vector]},
    )
    [plain] = service("bert_embedding").answer([post("It works.", accept="text/plain")])
    assert json.loads(plain.body) == vector


def test_neighbours_do_not_change_a_vector(service: Named) -> None:
    requests = [post(TEXTS[3]), post(""), post({"inputs": TEXTS[-3:]}), post("a")]
    together = service("llama_embedding").answer(requests)
    assert [response.status for response in together] == [200, 422, 200, 200]
    for request, response in zip(requests, together, strict=True):
        [alone] = service("llama_embedding").answer([request])
        if response.status == 200:
            ours, other = (torch.tensor(read(each)).double() for each in (response, alone))
            assert equal(ours, other)


def test_a_long_text_is_cut_unless_that_is_forbidden(service: Named) -> None:
    whole, cut = "x " * 50, "x " * 500
    service_ = service("bert_embedding")
    assert ask(service_, {"text": cut, "truncate": True}) == ask(service_, cut)
    status, answer = ask(service_, {"inputs": [whole, cut], "truncate": False})
    assert status == 413
    assert answer["error"].startswith("item 1 of the list: the text has more than 64 tokens")
    assert ask(service_, {"text": "short", "truncate": False})[0] == 200


@pytest.mark.parametrize(
    ("name", "payload", "says"),
    [
        ("bert_embedding", {"text": "a", "normalize": False}, "normalises its vectors itself"),
        ("roberta_embedding", {"text": "a", "normalize": 1}, "normalize must be true or false"),
        ("roberta_embedding", {"text": "a", "normalize": None}, "normalize must be true or false"),
        ("roberta_embedding", {"text": "a", "truncate": "yes"}, "truncate must be true or false"),
        ("bert_embedding", {"text": "a", "prompt_name": "query"}, "has no prompt_name"),
        ("roberta_embedding", {"text": "a", "prompt_name": "passage"}, "must be one of query"),
        ("roberta_embedding", {"text": "a", "prompt_name": ["query"]}, "must be one of query"),
        ("bert_embedding", {"text": "a", "pooling": "cls"}, "not known"),
        ("bert_embedding", {"text": "a", "dimensions": 0}, "whole number of at least 1"),
        ("bert_embedding", {"text": "a", "dimensions": 33}, "a whole number from 1 to 32"),
        ("bert_embedding", {"text": "a", "dimensions": None}, "whole number of at least 1"),
        ("bert_embedding", {"text": ""}, "empty"),
        ("bert_embedding", [5], "item 0 of the list: the text is a number"),
        ("bert_embedding", [{"txt": "a"}], "not known"),
        ("unigram_embedding", " ", "empty"),
    ],
)
def test_wrong_requests_are_refused(service: Named, name: str, payload: object, says: str) -> None:
    status, answer = ask(service(name), payload)
    assert (status, says in answer["error"]) == (422, True), answer


def test_too_many_dimensions_are_refused_before_the_pass(service: Named) -> None:
    embedder = service("roberta_embedding")
    before = embedder.tokens
    for dimensions in (33, 10**9):
        status, answer = ask(embedder, {"text": "a", "dimensions": dimensions})
        assert (status, answer["error"]) == (
            422,
            "dimensions must be a whole number from 1 to 32",
        )
    assert embedder.tokens == before


@pytest.mark.parametrize("fact", ["normalized", "prompts", "default_prompt"])
def test_an_artifact_without_a_fact_is_refused(
    artifact: Callable[[str], Path], tmp_path: Path, fact: str
) -> None:
    options = {"normalized": True, "prompts": {}, "default_prompt": ""}
    del options[fact]
    folder = change(artifact("bert_embedding"), tmp_path / "a", bundle={"mode_options": options})
    with pytest.raises(ArtifactError, match=fact):
        Service(folder, torch.device("cpu"))
