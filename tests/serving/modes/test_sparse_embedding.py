"""Sparse embedding: terms and weights of sentence-transformers' SparseEncoder."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tiny
from tests.serving.helpers import CPU, ask, change, post, read
from torchscript_bundle.serving.errors import ArtifactError
from torchscript_bundle.serving.modes import sparse_embedding
from torchscript_bundle.serving.service import Service

sentence_transformers = pytest.importorskip("sentence_transformers")

Named = Callable[[str], Service]
Oracle = Callable[[str], Any]

#: The largest logits; the sums, after two logarithms; a masked LM that is no such folder.
NAMES = ("bert_sparse", "roberta_sparse", "unigram_sparse")
TEXTS = [".", "x", "  double  and \t\n", *tiny.CORPUS, " ".join(tiny.CORPUS * 5), "<s> [SEP] 你好"]


@pytest.fixture(scope="session")
def oracle(checkpoint: Callable[[str], Path]) -> Oracle:
    """A name of a checkpoint -> sentence-transformers' model of it, which cuts as ours does."""

    @cache
    def load(name: str) -> Any:
        model = sentence_transformers.SparseEncoder(str(checkpoint(name)), device="cpu")
        model.max_seq_length = 64
        return model

    return load


def answers(service: Service, value: object) -> list[list[dict[str, Any]]]:
    status, found = ask(service, value)
    assert status == 200, found
    return list(found)


def dense(answer: list[dict[str, Any]]) -> torch.Tensor:
    """An answer as a vector over the vocabulary."""
    vector = torch.zeros(tiny.VOCABULARY, dtype=torch.float64)
    for entry in answer:
        vector[entry["index"]] = entry["value"]
    return vector


def equal(ours: list[list[dict[str, Any]]], theirs: torch.Tensor) -> bool:
    """Whether all terms are the same, and weights within rounding of float32."""
    other = theirs.to_dense().double()
    vectors = torch.stack([dense(each) for each in ours])
    same = torch.equal(vectors > 0, other > 0)
    return same and torch.allclose(vectors, other, rtol=1e-5, atol=1e-5 * other.max().item())


@pytest.mark.parametrize("name", NAMES)
def test_terms_equal_those_of_sentence_transformers(
    service: Named, oracle: Oracle, name: str
) -> None:
    """In batches of mixed lengths on both sides, and in blocks smaller than the vocabulary."""
    found = answers(service(name), TEXTS)
    assert equal(found, oracle(name).encode(TEXTS, batch_size=4))
    assert all(each["value"] > 0 for answer in found for each in answer)
    values = [[each["value"] for each in answer] for answer in found]
    assert values == [sorted(each, reverse=True) for each in values]
    assert max(map(len, values)) == 40 if name == "roberta_sparse" else max(map(len, values)) > 99


def test_top_k_and_prompts_equal_those_of_sentence_transformers(
    service: Named, oracle: Oracle
) -> None:
    request = {"inputs": TEXTS, "parameters": {"top_k": 7, "prompt_name": "query"}}
    theirs = oracle("roberta_sparse").encode(TEXTS, prompt_name="query", max_active_dims=7)
    assert equal(answers(service("roberta_sparse"), request), theirs)


def test_tokens_are_named_on_request(service: Named, oracle: Oracle) -> None:
    text = tiny.CORPUS[0]
    [answer] = answers(service("bert_sparse"), {"inputs": [text], "return_tokens": True})
    named = [each["token"] for each in answer if "token" in each]
    vocabulary = oracle("bert_sparse").tokenizer
    known = [each["index"] for each in answer if each["index"] < len(vocabulary)]
    assert named == vocabulary.convert_ids_to_tokens(known)
    assert len(named) < len(answer)  # the model has more terms than its tokenizer has tokens
    plain = answers(service("bert_sparse"), [text])
    assert [{k: v for k, v in each.items() if k != "token"} for each in answer] == plain[0]


def test_one_text_gets_its_list_and_each_protocol_its_form(service: Named) -> None:
    served = service("bert_sparse")
    expected = answers(served, {"text": "It works.", "top_k": 2})
    assert [sorted(each) for each in expected] == [["index", "value"]] * 2
    instances = {"instances": [{"text": "It works."}], "parameters": {"top_k": 2}}
    assert ask(served, instances) == (200, {"predictions": [expected]})
    [plain] = served.answer([post({"text": "It works.", "top_k": 2}, accept="text/plain")])
    assert plain.body.decode() == " ".join(f"{e['index']}:{e['value']}" for e in expected)


def test_a_text_with_too_many_terms_is_refused_and_harms_no_other(
    service: Named, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a masked language model gives that was not trained to give few."""
    monkeypatch.setattr(sparse_embedding, "MOST_TERMS", 50)
    requests = [post("It works."), post({"text": "It works.", "top_k": 50}), post("")]
    found = service("bert_sparse").answer(requests)
    assert [each.status for each in found] == [413, 200, 422]
    assert "send top_k, from 1 to 50, to get the heaviest" in read(found[0])["error"]
    assert len(read(found[1])) == 50


def test_a_long_text_is_cut_unless_that_is_forbidden(service: Named) -> None:
    cut = "x " * 500
    assert ask(service("bert_sparse"), cut)[0] == 200
    status, answer = ask(service("bert_sparse"), {"inputs": ["x", cut], "truncate": False})
    assert status == 413
    assert answer["error"].startswith("item 1 of the list: the text has more than 64 tokens")


def test_an_unknown_pooling_is_refused(artifact: Callable[[str], Path], tmp_path: Path) -> None:
    options = {
        **{"pooling": "mean", "activation": "relu", "max_active_dims": None},
        **{"prompts": {}, "default_prompt": ""},
    }
    folder = change(artifact("bert_sparse"), tmp_path / "a", bundle={"mode_options": options})
    with pytest.raises(ArtifactError, match=r"pooling is 'mean'; known are max, sum"):
        Service(folder, CPU)
