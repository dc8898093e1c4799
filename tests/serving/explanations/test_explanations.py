"""Explanations: captum's own on the eager model, one text at a time, and what a request may ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from captum.attr import LayerIntegratedGradients

from tests.serving.helpers import CPU, post, read
from torchscript_bundle.export.tasks import TASKS
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.service import Service

#: Largest difference from the eager model, relative to the scale of its attributions.
TOLERANCE = 1e-4
STEPS = 50

TEXTS = [
    "The film was long.",
    "We waited an hour for cold soup, and nobody said sorry.",
    "CAFÉ, naïve, Übergröße!",
    "你好 \U0001f600 and <s> [SEP] too",
    "x",
    "It works as described; " * 30,
    "שלום, it works",
    "Not bad at all.",
]

Explain = Callable[..., tuple[int, Any]]


class Eager:
    """captum over a checkpoint as transformers loads it, one unpadded row at a time."""

    def __init__(self, checkpoint: Path, folder: Path) -> None:
        bundle = Bundle.load(folder)
        auto_class = getattr(transformers, TASKS[bundle.mode].auto_class)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
        self.model = auto_class.from_pretrained(checkpoint).eval()
        self.labels = list(bundle.labels)
        self.max_length = bundle.max_length

    def encode(self, *texts: str) -> Any:
        return self.tokenizer(
            *texts, truncation=True, max_length=self.max_length, return_special_tokens_mask=True
        )

    def attribute(
        self, encoded: Any, place: tuple[int, ...], member: str = "logits"
    ) -> tuple[list[float], float, float]:
        """Importance of each ordinary token; the output; that of the baseline."""
        special = torch.tensor([encoded["special_tokens_mask"]]).bool()
        names = [name for name in ("attention_mask", "token_type_ids") if name in encoded]
        others = {name: torch.tensor([encoded[name]]) for name in names}
        ids = torch.tensor([encoded["input_ids"]])
        baseline = torch.where(special, ids, self.tokenizer.pad_token_id)

        def run(input_ids: torch.Tensor) -> torch.Tensor:
            rows = {name: each.expand(len(input_ids), -1) for name, each in others.items()}
            outputs: torch.Tensor = self.model(input_ids, **rows)[member]
            return outputs[(slice(None), *place)]

        embeddings = self.model.get_input_embeddings()
        layer = LayerIntegratedGradients(run, embeddings)
        found = layer.attribute(ids, baseline, n_steps=STEPS, internal_batch_size=STEPS)
        importances = found.sum(-1)[0]
        assert bool((importances[special[0]] == 0).all())
        with torch.no_grad():
            output, nothing = run(ids).item(), embeddings(baseline)
            # The ids stay: some models count their positions, or find their last token, by them.
            hook = embeddings.register_forward_hook(lambda *_: nothing)
            baseline_output = run(ids).item()
            hook.remove()
        return importances[~special[0]].tolist(), output, baseline_output


@pytest.fixture(scope="session")
def eager(
    checkpoint: Callable[[str], Path], explained: Callable[..., Path]
) -> Callable[[str], Eager]:
    return cache(lambda name: Eager(checkpoint(name), explained(name)))


@pytest.fixture(scope="session")
def explain(explained: Callable[..., Path]) -> Explain:
    """A name of a checkpoint and a JSON value -> status and value of the explanation."""
    services = cache(lambda *of: Service(explained(*of), CPU))

    def send(name: str, value: object, save_mode: str = "torchscript") -> tuple[int, Any]:
        request = replace(post(value), purpose="explain")
        [response] = services(name, save_mode).answer([request])
        return response.status, read(response)

    return send


def assert_close(found: dict[str, Any], expected: Sequence[float]) -> None:
    """The same importances, and sums that are what they should be."""
    importances = [token["importance"] for token in found["tokens"]]
    scale = max(map(abs, expected))
    assert importances == pytest.approx(expected, abs=TOLERANCE * scale)
    difference = found["output"] - found["baseline_output"]
    assert sum(importances) - difference == pytest.approx(found["delta"], abs=1e-4 * scale)


@pytest.mark.parametrize(
    "of",
    [
        *(["bert"], ["roberta"], ["gpt2"], ["bert", "pretrained"]),
        *(
            pytest.param(of, marks=pytest.mark.slow)
            for of in (["distilbert"], ["multi_label"], ["convbert"], ["gpt2", "pretrained"])
        ),
    ],
    ids="-".join,
)
def test_eight_texts_in_one_call(
    explain: Explain, eager: Callable[[str], Eager], of: list[str]
) -> None:
    name, *save_mode = of
    model = eager(name)
    status, answers = explain(name, {"inputs": TEXTS}, *save_mode)
    assert status == 200, answers
    for text, answer in zip(TEXTS, answers, strict=True):
        [found] = answer["explanations"]
        assert found["target"] == answer["answer"]["label"]
        place = (model.labels.index(found["target"]),)
        expected, output, baseline = model.attribute(model.encode(text), place)
        assert_close(found, expected)
        assert found["output"] == pytest.approx(output, abs=1e-4)
        assert found["baseline_output"] == pytest.approx(baseline, abs=1e-4)
        assert ("truncated" in found) == (len(text) > 500)


def test_a_chosen_label_and_a_pair(explain: Explain, eager: Callable[[str], Eager]) -> None:
    model = eager("bert")
    item = {"text": TEXTS[0], "text_pair": TEXTS[1]}
    status, answer = explain("bert", {**item, "target": "SO-SO", "top_k": None})
    assert status == 200, answer
    assert len(answer["answer"]) == 3
    [found] = answer["explanations"]
    assert found["target"] == "SO-SO"
    assert_close(found, model.attribute(model.encode(*item.values()), (1,))[0])
    assert {token["of"] for token in found["tokens"]} == set(item)
    for token in found["tokens"]:
        assert item[token["of"]][token["start"] : token["end"]] == token["token"] != ""


@pytest.mark.parametrize("target", ["SO-SO", 1, "1"])
def test_a_label_by_its_name_or_index(explain: Explain, target: object) -> None:
    """As the TorchServe example's requests have it, `instances` of its KServe ones included."""
    texts = [{"text": TEXTS[0], "target": target}, {"data": TEXTS[0], "target": target}]
    wrapped = {"data": {"text": TEXTS[0]}, "target": target}
    alone = [explain("bert", each) for each in texts]
    status, listed = explain("bert", {"instances": [*texts, wrapped, TEXTS[0]]})
    assert [status, *(each[0] for each in alone)] == [200] * 3, (listed, alone)
    *same, best = listed["predictions"]
    for answer in (*(each[1] for each in alone), *same):
        [found] = answer["explanations"]
        assert found["target"] == "SO-SO"
    assert best["explanations"][0]["target"] == best["answer"]["label"]


def test_each_item_names_its_own_target(explain: Explain, eager: Callable[[str], Eager]) -> None:
    model = eager("bert")
    items = [{"text": TEXTS[0], "target": index} for index in range(3)]
    status, answers = explain("bert", {"inputs": items})
    assert status == 200, answers
    for index, answer in enumerate(answers):
        [found] = answer["explanations"]
        assert_close(found, model.attribute(model.encode(TEXTS[0]), (index,))[0])


def test_a_token_of_a_question_by_its_place(
    explain: Explain, eager: Callable[[str], Eager]
) -> None:
    """As the TorchServe example explains it: a token's logits as start and as end."""
    model = eager("bert_qa")
    asked = {"question": "what works?", "context": "It works as described."}
    for place in (0, 6):
        status, answer = explain("bert_qa", {**asked, "target": place})
        assert status == 200, answer
        encoded = model.encode(*asked.values())
        for found, edge in zip(answer["explanations"], ("start", "end"), strict=True):
            assert found["target"] == edge
            assert_close(found, model.attribute(encoded, (place,), f"{edge}_logits")[0])


def test_start_and_end_of_an_answer(explain: Explain, eager: Callable[[str], Eager]) -> None:
    model = eager("bert_qa")
    question, context = "what works?", "The film was long. It works as described, for two days."
    status, answer = explain("bert_qa", {"question": question, "context": context})
    assert status == 200, answer
    encoded = model.encode(question, context)
    span = answer["answer"]
    for found, edge in zip(answer["explanations"], ("start", "end"), strict=True):
        assert found["target"] == edge
        # The answer is rounded to words, of which this is a token.
        assert span["start"] <= found["at"]["start"] < found["at"]["end"] <= span["end"]
        tokens = [
            at
            for at in range(len(encoded["input_ids"]))
            if encoded.encodings[0].sequence_ids[at] == 1
            and encoded.encodings[0].offsets[at] == (found["at"]["start"], found["at"]["end"])
        ]
        [place] = tokens
        assert_close(found, model.attribute(encoded, (place,), f"{edge}_logits")[0])


def test_a_long_context_is_explained_where_the_answer_is(explain: Explain) -> None:
    context = "cold soup and nobody " * 40 + "It works as described."
    status, answer = explain("bert_qa", {"question": "works?", "context": context})
    assert status == 200, answer
    span = answer["answer"]
    for found in answer["explanations"]:
        spans = [(t["start"], t["end"]) for t in found["tokens"] if t["of"] == "context"]
        assert min(spans)[0] <= span["start"] < span["end"] <= max(spans)[1]


@pytest.mark.parametrize("name", ["bert_ner", "roberta_ner", "unigram_ner"])
def test_a_chosen_token(explain: Explain, eager: Callable[[str], Eager], name: str) -> None:
    model = eager(name)
    text, position = "It works as described", 4
    value = {"inputs": text, "parameters": {"position": position, "target": "I-LOC"}}
    status, answer = explain(name, value)
    assert status == 200, answer
    [found] = answer["explanations"]
    assert found["target"] == "I-LOC"
    assert found["at"]["start"] <= position < found["at"]["end"]
    encoded = model.encode(text)
    place = encoded.char_to_token(0, position)
    assert_close(found, model.attribute(encoded, (place, 4))[0])


@pytest.mark.parametrize("target", [[1, 2], ["1", "2"], [1, "I-PER"]])
def test_a_token_and_its_label_in_a_list(
    explain: Explain, eager: Callable[[str], Eager], target: list[object]
) -> None:
    model = eager("bert_ner")
    label = model.labels[2]
    asked = [label if each == "I-PER" else each for each in target]
    status, answer = explain("bert_ner", {"text": TEXTS[0], "target": asked})
    assert status == 200, answer
    [found] = answer["explanations"]
    assert found["target"] == label
    assert_close(found, model.attribute(model.encode(TEXTS[0]), (1, 2))[0])


def test_without_a_choice_the_surest_entity(explain: Explain) -> None:
    """Of the tokens that are of an entity, as transformers' pipeline has them with "none"."""
    parameters = {"aggregation_strategy": "none", "ignore_labels": ["O"]}
    _, answer = explain("bert_ner", {"inputs": TEXTS[1], "parameters": parameters})
    [found] = answer["explanations"]
    best = max(answer["answer"], key=lambda entity: entity["score"])
    assert found["target"] == best["entity"]
    assert found["at"] == {"start": best["start"], "end": best["end"]}


def test_other_modes(explain: Explain, eager: Callable[[str], Eager]) -> None:
    parameters = {"candidate_labels": ["cold", "soup"], "target": "soup"}
    status, answer = explain("bert_nli", {"inputs": TEXTS[0], "parameters": parameters})
    assert status == 200, answer
    [found] = answer["explanations"]
    model = eager("bert_nli")
    expected = model.attribute(model.encode(TEXTS[0], "This example is soup."), (2,))[0]
    assert_close(found, expected)
    passages = [TEXTS[1], TEXTS[7]]
    status, answer = explain("bert_reranker", {"query": TEXTS[0], "passages": passages})
    assert status == 200, answer
    [found] = answer["explanations"]
    best = answer["answer"][0]["index"]
    assert found["target"] == f"passage {best}"
    model = eager("bert_reranker")
    assert_close(found, model.attribute(model.encode(TEXTS[0], passages[best]), (0,))[0])
    status, answer = explain("bert_mlm", "It [MASK] as described, [MASK]")
    assert status == 200, answer
    model = eager("bert_mlm")
    encoded = model.encode("It [MASK] as described, [MASK]")
    masks = [at for at, each in enumerate(encoded["input_ids"]) if each == 4]
    pairs = zip(masks, answer["answer"], answer["explanations"], strict=True)
    for mask, proposals, found in pairs:
        assert found["target"] == proposals[0]["token_str"]
        assert_close(found, model.attribute(encoded, (mask, proposals[0]["token"]))[0])


def test_more_steps_come_closer(explain: Explain) -> None:
    deltas = []
    for steps in (2, 50):
        status, answer = explain("bert", {"text": TEXTS[1], "n_steps": steps})
        assert status == 200, answer
        deltas.append(abs(answer["explanations"][0]["delta"]))
    assert deltas[1] < deltas[0] / 10


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("bert", {"inputs": ["x", "y"], "target": "HAPPY"}, "target must be one of SAD"),
        ("bert", {"text": "x", "target": ["GLAD"]}, "SAD, SO-SO, GLAD"),
        ("bert", {"text": "x", "n_steps": 51}, "n_steps must be a whole number from 2 to 50"),
        ("bert", {"text": "x", "n_steps": 1e300}, "n_steps"),
        ("bert", {"text": "x", "format": "pdf"}, "format must be one of json, html"),
        ("bert", {"text": "x", "position": 0}, "not known"),
        ("bert_ner", {"text": "a b", "position": 3}, "position must be below 3"),
        ("bert_ner", {"text": "a b", "position": 1}, "position has no token"),
        ("bert", {"text": "x", "target": 3}, "or the index of one, from 0 to 2"),
        ("bert", {"text": "x", "target": True}, "target must be one of SAD"),
        ("bert", {"instances": [{"text": "x", "target": "7"}]}, "item 0 of the list: target must"),
        ("bert", {"instances": ["x", {"data": "x", "secret": 1}]}, '"instances.target"'),
        (
            "bert",
            {"instances": [{"text": "x", "target": 1}], "parameters": {"target": 2}},
            "item 0 of the list: target is given twice",
        ),
        (
            "bert",
            {"instances": [{"data": {"text": "x", "target": 1}, "target": 1}]},
            "target is given twice",
        ),
        ("bert_ner", {"text": "a b", "target": [1]}, "as a list must be [token, label]"),
        ("bert_ner", {"text": "a b", "target": ["a", 1]}, "as a list must be [token, label]"),
        ("bert_ner", {"text": "a b", "target": [1, 99]}, "target must be one of O"),
        ("bert_ner", {"text": "a b", "target": [4, 1]}, "send a place from 0 to 3"),
        ("bert_ner", {"text": "a b", "target": [1, 1], "position": 0}, "both name a token"),
        ("bert_qa", {"question": "x", "context": "y", "target": "start"}, "a whole number of at"),
        ("bert_qa", {"question": "x", "context": "y", "target": 5}, "send a place from 0 to 4"),
        ("bert_reranker", {"query": "x", "passages": ["y"], "target": 1}, "target must be below 1"),
        ("bert_mlm", {"text": "[MASK]", "target": "hovercraft"}, "target is not one token"),
        ("bert_mlm", {"text": "[MASK]", "target": "h" * 501}, "target is over 500"),
        ("bert_nli", {"inputs": "x", "candidate_labels": "a, b", "target": "c"}, "a, b"),
    ],
)
def test_wrong_requests(explain: Explain, name: str, value: object, says: str) -> None:
    status, answer = explain(name, value)
    assert (status, says in answer["error"]) == (422, True), answer
