"""Question answering: what a request may say, and answers equal to the SQuAD formula's."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from tests.serving.helpers import BUNDLE, ask, post, raw, read
from torchscript_bundle.serving.errors import ArtifactError
from torchscript_bundle.serving.modes.question_answering import (
    QuestionAnswering,
    best_spans,
    trimmed,
)
from torchscript_bundle.serving.service import Service

Named = Callable[[str], Service]

NAMES = ["bert_qa", "roberta_qa", "left_qa", "bare_qa"]
WITH_NULL = NAMES[:3]
LENGTH = 64
STRIDE = 16

QUESTIONS = ["How long does the battery last?", "who?", "CAFÉ ou naïve \U0001f600?"]
CONTEXTS = [
    "The battery lasts two days.",
    "x",
    "It works as described; the battery lasts two days, and nobody said sorry. " * 4,
    "CAFÉ, naïve, Übergröße! e\u0301 ﬁne İstanbul \u3000 tab\tline\nend",
    "你好，世界 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f600 " * 3 + " film",
    "  The  film  was long.  [SEP] literal </s> special [CLS] tokens <s>  ",
    "Supercalifragilisticexpialidocious" * 2,
]


class Oracle:
    """The eager model under the formula of transformers 4's QuestionAnsweringPipeline.

    Its arrays are as wide as a window and masked, where ours hold the context's tokens alone.
    """

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForQuestionAnswering.from_pretrained(folder).eval()
        self.right = self.tokenizer.padding_side == "right"

    @torch.no_grad()
    def __call__(
        self,
        question: str,
        context: str,
        top_k: int = 1,
        max_answer_len: int = 15,
        handle_impossible_answer: bool = False,
        doc_stride: int = 32,
    ) -> list[dict[str, Any]]:
        """The best answers of all windows, the best first."""
        batch = self.tokenizer(
            *((question, context) if self.right else (context, question)),
            truncation="only_second" if self.right else "only_first",
            max_length=LENGTH,
            stride=doc_stride,
            return_overflowing_tokens=True,
            padding="max_length",
            return_tensors="pt",
        )
        batch.pop("overflow_to_sample_mapping")
        output = self.model(**batch)
        best: dict[tuple[int, int], float] = {}
        null = 1.0
        for at in range(len(batch["input_ids"])):
            logits = (output.start_logits[at].numpy(), output.end_logits[at].numpy())
            null = min(null, self._window(batch, at, logits, max_answer_len, best, context))
        answers = [
            {"score": score, "start": start, "end": end, "answer": context[start:end]}
            for (start, end), score in best.items()
        ]
        if handle_impossible_answer:
            answers.append({"score": null, "start": 0, "end": 0, "answer": ""})
        return sorted(answers, key=lambda answer: -answer["score"])[:top_k]

    def _window(
        self,
        batch: Any,
        at: int,
        logits: tuple[Any, Any],
        max_answer_len: int,
        best: dict[tuple[int, int], float],
        text: str,
    ) -> float:
        owner = 1 if self.right else 0
        encoding = batch[at]
        context = np.array([each == owner for each in batch.sequence_ids(at)])
        ids = batch["input_ids"][at].numpy()
        special = np.array(encoding.special_tokens_mask, dtype=bool)
        cls = (ids == self.tokenizer.cls_token_id) & special
        start, end = (np.where(context | cls, each, -10000.0) for each in logits)
        start, end = (np.exp(each - each.max()) for each in (start, end))
        start, end = start / start.sum(), end / end.sum()
        null = float((start * end)[cls][0]) if cls.any() else 1.0
        start[cls] = end[cls] = 0.0
        scores = np.tril(np.triu(np.outer(start, end)), max_answer_len - 1)
        for first, last in zip(*np.nonzero(np.outer(context, context)), strict=True):
            if first <= last < first + max_answer_len:
                span = (
                    encoding.word_to_chars(encoding.token_to_word(first), owner)[0],
                    encoding.word_to_chars(encoding.token_to_word(last), owner)[1],
                )
                span = trim(span, text)
                if span[0] < span[1]:  # the pipeline gives these as answers that are empty
                    best[span] = max(best.get(span, 0.0), float(scores[first, last]))
        return null


def trim(span: tuple[int, int], text: str) -> tuple[int, int]:
    """Without the white space at its ends; from its start to its end, which may be before that."""
    start, end = span
    while start < len(text) and text[start].isspace():
        start += 1
    while end > 0 and text[end - 1].isspace():
        end -= 1
    return start, end


@pytest.fixture(scope="session")
def oracle(checkpoint: Callable[[str], Path]) -> Callable[[str], Oracle]:
    """A name of a checkpoint -> the formula on it."""
    return cache(lambda name: Oracle(checkpoint(name)))


def worst_difference(answers: list[dict[str, Any]], expected: list[dict[str, Any]]) -> float:
    """Of the scores; what the answers say must be the same, but where two are as good."""
    assert len(answers) == len(expected)
    for answer, other in zip(answers, expected, strict=True):
        if (answer["start"], answer["end"]) != (other["start"], other["end"]):
            assert answer["score"] == pytest.approx(other["score"], abs=1e-5)
        else:
            assert answer["answer"] == other["answer"]
    pairs = zip(answers, expected, strict=True)
    return max(abs(answer["score"] - other["score"]) for answer, other in pairs)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"top_k": 5},
        {"top_k": 3, "max_answer_len": 1},
        {"top_k": 20, "max_answer_len": 64},
        {"doc_stride": 0},
        {"doc_stride": 7, "top_k": 2},
    ],
)
def test_answers_equal_those_of_the_formula(
    service: Named, oracle: Callable[[str], Oracle], name: str, parameters: dict[str, Any]
) -> None:
    parameters = {"doc_stride": STRIDE, **parameters}
    items = [{"question": q, "context": c} for q in QUESTIONS for c in CONTEXTS]
    status, answers = ask(service(name), {"inputs": items, "parameters": parameters})
    assert status == 200, answers
    for item, answer in zip(items, answers, strict=True):
        listed = answer if parameters.get("top_k", 1) > 1 else [answer]
        assert worst_difference(listed, oracle(name)(**item, **parameters)) < 1e-5


@pytest.mark.parametrize("name", WITH_NULL)
def test_no_answer_competes_with_the_answers(
    service: Named, oracle: Callable[[str], Oracle], name: str
) -> None:
    parameters = {"handle_impossible_answer": True, "top_k": 100, "doc_stride": STRIDE}
    nulls = []
    for question in QUESTIONS:
        for context in CONTEXTS:
            item = {"question": question, "context": context}
            _, answers = ask(service(name), {"inputs": item, "parameters": parameters})
            expected = oracle(name)(**item, **parameters)
            assert worst_difference(answers, expected) < 1e-5
            nulls += [each for each in answers if not each["answer"]]
    assert nulls
    assert all((each["start"], each["end"]) == (0, 0) for each in nulls)


def test_no_answer_alone_is_an_empty_answer() -> None:
    answer = {"score": 1.0, "start": 0, "end": 0, "answer": ""}
    mode = QuestionAnswering(QA_BUNDLE)
    assert mode.plain_text(answer) == ""
    assert mode.plain_text([{**answer, "answer": "two\n days"}, answer]) == "two days\n"


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_has_no_white_space_around_it(service: Named, name: str) -> None:
    """With SentencePiece a token holds the space before its word; some are a space alone."""
    for context in (CONTEXTS[0], CONTEXTS[3], CONTEXTS[5], "a  \u3000 \u2003 b\n\n c \t"):
        item = {"question": QUESTIONS[0], "context": context, "top_k": 100}
        status, answers = ask(service(name), item)
        assert status == 200
        spans = [(each["start"], each["end"]) for each in answers]
        assert len(set(spans)) == len(spans)
        for answer in answers:
            assert answer["answer"] == context[answer["start"] : answer["end"]]
            assert answer["answer"] == answer["answer"].strip() != ""


def test_spans_are_trimmed_as_text_is() -> None:
    text = " two\u00a0\u3000 days \n"
    spans = [(start, end) for start in range(len(text)) for end in range(start, len(text) + 1)]
    for span, found in zip(spans, trimmed(spans, text), strict=True):
        start, end = trim(span, text)
        assert text[slice(*found)] == text[start:end] == text[slice(*span)].strip()
    assert trimmed([], text) == []


def test_a_context_that_is_mostly_white_space_takes_no_time(service: Named) -> None:
    many = " " * 500_000
    began = time.monotonic()
    assert trimmed([(at, at + 1) for at in range(len(many))], many)[0][0] == len(many)
    assert time.monotonic() - began < 20  # looking from each of them would take hours


def test_a_long_context_is_read_to_its_end(service: Named, oracle: Callable[[str], Oracle]) -> None:
    item = {"question": "Who?", "context": "The film was long. " * 60 + "Übergröße waited."}
    _, answers = ask(service("bert_qa"), {**item, "top_k": 100, "doc_stride": 20})
    expected = oracle("bert_qa")(**item, top_k=100, doc_stride=20)
    assert worst_difference(answers, expected) < 1e-5
    _, everything = ask(service("bert_qa"), {**item, "top_k": 100, "max_answer_len": 1})
    assert max(answer["end"] for answer in everything) > 500


def test_forms_of_a_request_get_the_same_answer(service: Named) -> None:
    item = {"question": QUESTIONS[0], "context": CONTEXTS[0]}
    status, alone = ask(service("bert_qa"), item)
    assert (status, sorted(alone)) == (200, ["answer", "end", "score", "start"])
    assert CONTEXTS[0][alone["start"] : alone["end"]] == alone["answer"] != ""
    assert ask(service("bert_qa"), {"inputs": item}) == (200, alone)
    assert ask(service("bert_qa"), [item]) == (200, [alone])
    assert ask(service("bert_qa"), {"instances": [item]}) == (200, {"predictions": [alone]})
    tensors = [
        {"name": name, "shape": [1], "datatype": "BYTES", "data": [text]}
        for name, text in item.items()
    ]
    _, answer = ask(service("bert_qa"), {"inputs": tensors})
    assert '"answer"' in answer["outputs"][0]["data"][0]
    [bare] = service("bert_qa").answer([post(item, accept="text/plain")])
    assert bare.body.decode() == " ".join(alone["answer"].split())


def test_requests_together_get_what_each_gets_alone(service: Named) -> None:
    requests = [
        post({"question": q, "context": c, "top_k": k, "doc_stride": STRIDE})
        for q in QUESTIONS
        for k, c in enumerate(CONTEXTS, start=1)
    ]
    together = service("roberta_qa").answer([*requests, raw(b"bad")])
    assert together[-1].status == 422
    for request, response in zip(requests, together[:-1], strict=True):
        [alone] = service("roberta_qa").answer([request])
        one, other = (
            [each] if isinstance(each, dict) else each for each in map(read, (alone, response))
        )
        assert worst_difference(one, other) < 1e-5


def test_positions_count_characters_of_the_clients_context(service: Named) -> None:
    context = "\U0001f600 e\u0301 " * 3 + "film"
    payload = {"question": "a?", "context": context, "top_k": 100}
    for name in NAMES:
        for answer in ask(service(name), payload)[1]:
            assert context[answer["start"] : answer["end"]] == answer["answer"]


@pytest.mark.parametrize(
    ("payload", "status", "says"),
    [
        ("a text", 422, '{"question": "...", "context": "..."}'),
        ({"question": "a"}, 422, "no context"),
        ({"context": "a"}, 422, "no question"),
        ({"question": "", "context": "a"}, 422, "question is empty"),
        ({"question": "a", "context": 5}, 422, "context is a number"),
        ({"question": ["a"], "context": "a"}, 422, "question is a list"),
        ({"question": "a", "context": "\ud800"}, 422, "context has half of a surrogate pair"),
        ({"question": "a", "context": "b", "text": "c"}, 422, "not known"),
        ({"question": "a", "context": "\x00\x01"}, 422, "context has no tokens"),
        ({"question": "a " * 200, "context": "b " * 200}, 413, "question is over 32 tokens"),
        ({"question": "a " * 200, "context": "b"}, 413, "question is over 32 tokens"),
        ({"question": "a", "context": "b " * 5000}, 413, "windows"),
        ({"question": "a", "context": "b", "top_k": 0}, 422, "top_k must be a whole number"),
        ({"question": "a", "context": "b", "top_k": 101}, 422, "from 1 to 100"),
        ({"question": "a", "context": "b", "top_k": None}, 422, "top_k must be"),
        ({"question": "a", "context": "b", "top_k": True}, 422, "top_k must be"),
        ({"question": "a", "context": "b", "max_answer_len": 0}, 422, "max_answer_len must be"),
        ({"question": "a", "context": "b", "max_answer_len": 65}, 422, "from 1 to 64"),
        ({"question": "a", "context": "b", "doc_stride": -1}, 422, "doc_stride must be"),
        ({"question": "a", "context": "b", "doc_stride": 33}, 422, "from 0 to 32"),
        ({"question": "a", "context": "b", "doc_stride": "8"}, 422, "doc_stride must be"),
        ({"question": "a", "context": "b", "handle_impossible_answer": 1}, 422, "true or false"),
    ],
)
def test_wrong_requests_are_refused(
    service: Named, payload: object, status: int, says: str
) -> None:
    got, answer = ask(service("bert_qa"), payload)
    assert (got, says in answer["error"]) == (status, True), answer


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("words", range(15, 70, 3))
def test_no_question_is_too_long_for_an_answer_of_its_own(
    service: Named, name: str, words: int
) -> None:
    payload = {"question": "a " * words, "context": "the film " * 40, "doc_stride": 32}
    status, answer = ask(service(name), payload)
    assert status == 200 or (status == 413 and "error" in answer)


def test_a_model_without_a_token_for_no_answer_says_so(service: Named) -> None:
    payload = {"question": "a", "context": "b", "handle_impossible_answer": True}
    status, answer = ask(service("bare_qa"), payload)
    assert (status, "no token that stands for no answer" in answer["error"]) == (422, True)


QA_BUNDLE = replace(
    BUNDLE, mode="question_answering", mode_options={"null_token": 2, "has_words": True}
)


@pytest.mark.parametrize("tokens", [32, 33])
def test_a_question_may_fill_half_of_a_window(service: Named, tokens: int) -> None:
    payload = {"question": "a " * tokens, "context": "the film " * 100, "doc_stride": 8}
    assert ask(service("bert_qa"), payload)[0] == (200 if tokens == 32 else 413)


def test_windows_that_bring_nothing_new_are_refused(service: Named) -> None:
    payload = {"question": "a " * 30, "context": "the film " * 100, "doc_stride": 31}
    status, answer = ask(service("bert_qa"), payload)
    assert (status, "share fewer" in answer["error"]) == (413, True)


def test_an_artifact_without_its_facts_is_refused() -> None:
    with pytest.raises(ArtifactError, match="null_token"):
        QuestionAnswering(replace(QA_BUNDLE, mode_options={"has_words": True}))


def test_spans_of_the_same_characters_count_once_with_their_best_score() -> None:
    starts, ends = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.1, 0.2, 0.7])
    found = best_spans(starts, ends, [(0, 4), (0, 4), (5, 9)], 3, 10)
    expected = {(0, 9): 0.35, (5, 9): 0.14, (0, 4): 0.1}
    assert [span for span, _ in found] == list(expected)
    assert [score for _, score in found] == pytest.approx(list(expected.values()))


def test_no_span_is_longer_than_asked_or_empty() -> None:
    even = torch.full((3,), 0.3)
    found = best_spans(even, even, [(0, 1), (2, 3), (4, 4)], 1, 10)
    assert sorted(span for span, _ in found) == [(0, 1), (2, 3)]
    assert best_spans(even[:0], even[:0], [], 15, 1) == []
    assert best_spans(even[:1], even[:1], [(4, 4)], 15, 1) == []
