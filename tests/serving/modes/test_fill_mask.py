"""Fill mask: proposals equal to those of transformers' own pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, BertForMaskedLM, pipeline

from tests import tiny
from tests.serving.helpers import CPU, ask, change, post, read
from torchscript_bundle.export.wrappers import wrap_model
from torchscript_bundle.jit.compilation import trace
from torchscript_bundle.jit.tracing import record_tracer_warnings
from torchscript_bundle.serving.artifact import MODULE_FILE, Output
from torchscript_bundle.serving.modes.fill_mask import clean_up
from torchscript_bundle.serving.service import Service

Named = Callable[[str], Service]

#: Checkpoint -> its mask.
MASKS = {
    "bert_mlm": "[MASK]",
    "bare_mlm": "[MASK]",
    "roberta_mlm": "<mask>",
    "unigram_mlm": "<mask>",
}
TEXTS = [
    "The film was @.",
    "@ waited an hour for @ soup, and nobody said sorry; don't , isn't !",
    "CAFÉ, na@ïve, Übergröße: e\u0301 \ufb01ne @",
    "你好 @ \U0001f600 <s> [SEP] <pad>[PAD] </s>",
    "  @  leading,  double \t tab\nline  ",
    "@",
    "@@ @",
]


@pytest.fixture(scope="session")
def oracle(checkpoint: Callable[[str], Path]) -> Callable[[str], Any]:
    """A name of a checkpoint -> transformers' pipeline on it."""
    return cache(lambda name: pipeline("fill-mask", model=str(checkpoint(name))))


def near(value: Any) -> Any:
    """Scores as near as float32 allows; the rest as it is."""
    if isinstance(value, list):
        return [near(each) for each in value]
    return {**value, "score": pytest.approx(value["score"], abs=1e-5)}


def masked(name: str) -> list[str]:
    return [text.replace("@", MASKS[name]) for text in TEXTS]


@pytest.mark.parametrize("top_k", [None, 1, 20])
@pytest.mark.parametrize("name", MASKS)
def test_proposals_equal_those_of_transformers(
    service: Named, oracle: Callable[[str], Any], name: str, top_k: int | None
) -> None:
    parameters = {} if top_k is None else {"top_k": top_k}
    status, answers = ask(service(name), {"inputs": masked(name), "parameters": parameters})
    assert status == 200
    for text, answer in zip(masked(name), answers, strict=True):
        assert answer == near(oracle(name)(text, **parameters))


@pytest.mark.parametrize("name", MASKS)
def test_targets_limit_the_proposals_as_in_transformers(
    service: Named, oracle: Callable[[str], Any], checkpoint: Callable[[str], Path], name: str
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(str(checkpoint(name)))
    tokens = tokenizer.convert_ids_to_tokens([9, 20, 31, 44, 20])
    for top_k in (2, 5):
        parameters = {"targets": tokens, "top_k": top_k}
        payload = {"inputs": masked(name), "parameters": parameters}
        status, answers = ask(service(name), payload)
        assert status == 200
        for text, answer in zip(masked(name), answers, strict=True):
            assert answer == near(oracle(name)(text, **parameters))


def test_target_may_be_written_as_text(service: Named, oracle: Callable[[str], Any]) -> None:
    """The vocabulary of a byte-level tokenizer has `Ġthe`, which nobody writes."""
    text = "at <mask> end"
    _, answer = ask(service("roberta_mlm"), {"text": text, "targets": [" the"]})
    assert [entry["token_str"] for entry in answer] == [" the"]
    assert answer == near(oracle("roberta_mlm")(text, targets=[" the"]))


@pytest.mark.parametrize("name", ["bert_mlm", "roberta_mlm"])
def test_long_text_is_cut_and_says_so(
    service: Named, oracle: Callable[[str], Any], name: str
) -> None:
    text = f"It {MASKS[name]} as described; " + "the battery lasts two days. " * 20
    _, answer = ask(service(name), text)
    assert all(entry.pop("truncated") for entry in answer)
    cut = {"truncation": True, "max_length": 64}
    assert answer == near(oracle(name)(text, tokenizer_kwargs=cut))


def test_requests_with_other_parameters_share_a_batch(service: Named) -> None:
    mode = service("bert_mlm")
    payloads = [
        "a [MASK]",
        {"text": "a [MASK] and [MASK]", "top_k": 2},
        {"inputs": ["no mask"]},
        {"instances": [{"text": "[MASK] b"}], "parameters": {"targets": ["the", "was"]}},
    ]
    together = mode.answer([post(payload) for payload in payloads])
    assert [response.status for response in together] == [200, 200, 422, 200]
    single, several, _, instances = (read(response) for response in together)
    assert single == near(ask(mode, payloads[0])[1])
    assert several == near(ask(mode, payloads[1])[1])
    assert [len(each) for each in several] == [2, 2]
    assert {entry["token_str"] for entry in instances["predictions"][0]} == {"the", "was"}


def test_only_logits_of_masks_are_computed(artifact: Callable[[str], Path]) -> None:
    module = torch.jit.load(str(artifact("bert_mlm") / MODULE_FILE))
    ids = torch.tensor([[2, 4, 9, 4, 3], [2, 9, 9, 4, 3], [2, 4, 3, 4, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    [logits] = module(ids, mask, torch.zeros_like(ids))
    assert logits.shape == (4, tiny.VOCABULARY)  # padding is no mask, whatever it is spelled by
    [last] = module(ids[2:, :3], mask[2:, :3], torch.zeros(1, 3, dtype=torch.int64))
    torch.testing.assert_close(logits[3:], last, rtol=1e-5, atol=1e-5)


def test_older_archives_whose_modules_give_all_logits_are_served(
    service: Named,
    artifact: Callable[[str], Path],
    checkpoint: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    model = BertForMaskedLM.from_pretrained(checkpoint("bert_mlm")).eval()
    inputs = ("input_ids", "attention_mask", "token_type_ids")
    example = tuple(torch.ones(2, 9, dtype=torch.int64) for _ in inputs)
    with record_tracer_warnings():
        module = trace(wrap_model(model, inputs).eval(), example)
    outputs = (Output("logits", per_token=True),)
    older = change(
        artifact("bert_mlm"), tmp_path / "older", bundle={"outputs": outputs}, module=module
    )
    facts = json.loads((older / "bundle.json").read_text())
    del facts["outputs"][0]["special"]
    (older / "bundle.json").write_text(json.dumps(facts))
    status, expected = ask(service("bert_mlm"), masked("bert_mlm"))
    found_status, found = ask(Service(older, CPU), masked("bert_mlm"))
    assert (found_status, status) == (200, 200)
    assert found == [near(answer) for answer in expected]


def test_plain_text_is_the_best_token_of_each_mask(service: Named) -> None:
    payload = ["a [MASK]", "[MASK] b [MASK]"]
    full, bare = service("bert_mlm").answer([post(payload), post(payload, accept="text/plain")])
    one, two = read(full)
    best = [one[0], two[0][0], two[1][0]]
    assert bare.body.decode().split("\n") == [entry["token_str"] for entry in best]


@pytest.mark.parametrize(
    ("payload", "status", "says"),
    [
        ("no mask", 422, "the text has no mask; write [MASK] in place"),
        ("a <mask>", 422, "write [MASK]"),
        (["a [MASK]", "b"], 422, "item 1 of the list: the text has no mask"),
        ("the end " * 60 + "[MASK]", 413, "more than 64 tokens"),
        ("[MASK] " + "the end " * 60 + "[MASK]", 413, "more than 64 tokens"),
        ({"text": "[MASK] " * 6, "top_k": 100}, 413, "send fewer masks"),
        ({"text": "a [MASK]", "top_k": 0}, 422, "from 1 to 100"),
        ({"text": "a [MASK]", "top_k": 101}, 422, "from 1 to 100"),
        ({"text": "a [MASK]", "top_k": True}, 422, "from 1 to 100"),
        ({"text": "a [MASK]", "top_k": None}, 422, "from 1 to 100"),
        ({"text": "a [MASK]", "targets": "the"}, 422, "a list of 1 to 100"),
        ({"text": "a [MASK]", "targets": []}, 422, "a list of 1 to 100"),
        ({"text": "a [MASK]", "targets": ["the"] * 101}, 422, "101 targets; send at most 100"),
        ({"text": "a [MASK]", "targets": ["the", 5]}, 422, "target 1 is a number"),
        ({"text": "a [MASK]", "targets": ["the", ""]}, 422, "target 1 is empty"),
        ({"text": "a [MASK]", "targets": ["\ud800"]}, 422, "surrogate"),
        ({"text": "a [MASK]", "targets": ["the", "secret words"]}, 422, "target 1 is not one"),
        ({"text": "a [MASK]", "targets": ["\U0001f600"]}, 422, "target 0 is not one"),
        ({"text": "a [MASK]", "targets": ["\u200b"]}, 422, "target 0"),
        ({"text": "a [MASK]", "secret": 1}, 422, "not known"),
    ],
)
def test_wrong_requests_get_a_sentence(
    service: Named, payload: object, status: int, says: str
) -> None:
    got, answer = ask(service("bert_mlm"), payload)
    assert (got, says in answer.get("error", "")) == (status, True), answer
    assert "secret" not in answer["error"]


def test_mask_of_the_model_is_the_one_that_the_error_names(service: Named) -> None:
    status, answer = ask(service("roberta_mlm"), "a [MASK]")
    assert (status, "write <mask> in place" in answer["error"]) == (422, True)


def test_text_that_must_not_be_cut_is_refused(
    artifact: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = change(artifact("bert_mlm"), tmp_path / "strict", config={"on_too_long": "error"})
    strict = Service(folder, torch.device("cpu"))
    status, answer = ask(strict, "[MASK] " + "the end " * 60)
    assert (status, "send at most 64" in answer["error"]) == (413, True)


def test_spaces_are_cleaned_up_as_in_transformers(checkpoint: Callable[[str], Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(str(checkpoint("bert_mlm")))
    text = "a . b ? c ! d , e ' f do n't I 'm it 's we 've they 're ' . ' n't  . '"
    assert clean_up(text) == tokenizer.clean_up_tokenization(text)
