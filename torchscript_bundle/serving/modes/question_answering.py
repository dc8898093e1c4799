"""Extractive question answering: a question and a context -> the part of it that answers.

Answers are those of Hugging Face's question-answering task: `{"score", "start", "end", "answer"}`,
or a list of the best ones where `top_k` is over 1. Source of the formula: transformers 4's
QuestionAnsweringPipeline (`postprocess`, `select_starts_ends`, `decode_spans`).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Encoding

from torchscript_bundle.serving.api import fields
from torchscript_bundle.serving.api.json_schema import COUNT, NUMBER, STRING, array, either, record
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.explanations.target import Index, Target
from torchscript_bundle.serving.modes.base import Computed, ForwardMode, Parameters, Query
from torchscript_bundle.serving.modes.mode_options import QuestionAnsweringOptions
from torchscript_bundle.serving.text.tokenizer import Truncation

DOC_STRIDE = 128
MAX_ANSWER_LEN = 15
MOST_ANSWERS = 100
LONGEST_ANSWER = 256

PART = record({"score": NUMBER, "start": COUNT, "end": COUNT, "answer": STRING})

#: As `str.isspace` has it.
WHITE_SPACE = re.compile(r"\s+")

#: Start and end (exclusive) of an answer, in characters of the context.
Span = tuple[int, int]


@dataclass(frozen=True)
class QaParameters(Parameters):
    top_k: int
    max_answer_len: int
    handle_impossible_answer: bool
    doc_stride: int


@dataclass(frozen=True)
class WindowAnswers:
    """A window's best answers with their scores, and the score of "no answer"."""

    null_score: float
    spans: list[tuple[Span, float]]


class QuestionAnswering(ForwardMode):
    item_keys = fields.named(
        fields.Text("question", "What is asked.", required=True, example="How long does it last?"),
        fields.Text("context", "Where the answer is.", required=True, example="It lasts two days."),
        fields.UNREAD_TARGET,
    )
    target_parameters = fields.named(
        Index("target", "The token whose scores as a start and as an end are explained.")
    )
    answer_schema = either(PART, array(PART, minItems=1))

    def __init__(self, bundle: Bundle) -> None:
        self._options = QuestionAnsweringOptions.read(bundle.mode_options)
        longest, self._half = min(LONGEST_ANSWER, bundle.max_length), bundle.max_length // 2
        widest, impossible = self._half, 'Let "no answer" compete: an empty answer.'
        shared = "Tokens that the windows of a long context share."
        usual, stride = min(MAX_ANSWER_LEN, longest), min(DOC_STRIDE, widest)
        self.parameters = fields.named(
            fields.Whole("top_k", "How many answers.", least=1, most=MOST_ANSWERS, default=1),
            fields.Whole("max_answer_len", "In tokens.", least=1, most=longest, default=usual),
            fields.Boolean("handle_impossible_answer", impossible, default=False),
            fields.Whole("doc_stride", shared, least=0, most=widest, default=stride),
        )
        # Models that are padded on the left were fine-tuned with the context before the question.
        # Source: transformers' examples/pytorch/question-answering/run_qa.py, pad_on_right.
        first = bundle.padding.side == "right"
        self._names = ("question", "context") if first else ("context", "question")
        self._context = self._names.index("context")
        self.truncation = Truncation("only_second" if first else "only_first", windows=True)

    def decode(self, item: object, parameters: Mapping[str, object]) -> Query:
        read = fields.read_item(self.item_keys, item)
        self._check_leaves_room(read["question"], self._half, "the question")
        wanted = QaParameters.read(self.parameters, parameters)
        if wanted.handle_impossible_answer and self._options.null_token is None:
            raise RequestError(
                422,
                "this model has no token that stands for no answer; "
                "leave handle_impossible_answer out",
            )
        first, second = self._names
        return Query([(read[first], read[second])], wanted, wanted.doc_stride)

    def encode(self, query: Query, computed: Sequence[Sequence[Computed]]) -> Any:
        [windows] = computed
        wanted: QaParameters = query.parameters
        context = query.texts[0][self._context]
        best: dict[Span, float] = {}
        null_score = 1.0
        for window in windows:
            found = self._read_window(window, context, wanted)
            null_score = min(null_score, found.null_score)
            for span, score in found.spans:
                best[span] = max(score, best.get(span, 0.0))
        if not best:
            raise RequestError(422, "the context has no tokens; send at least one word")
        ranked = sorted(best.items(), key=lambda entry: (-entry[1], entry[0]))[: wanted.top_k]
        answers: list[dict[str, Any]] = [
            {"score": score, "start": start, "end": end, "answer": context[start:end]}
            for (start, end), score in ranked
        ]
        if wanted.handle_impossible_answer:
            answers.append({"score": null_score, "start": 0, "end": 0, "answer": ""})
            answers.sort(key=lambda answer: -answer["score"])
        return answers[0] if wanted.top_k == 1 else answers[: wanted.top_k]

    def targets(
        self, query: Query, computed: Sequence[Sequence[Computed]], wanted: Mapping[str, Any]
    ) -> list[Target]:
        """Return the start and end logits of the requested token, or of the best answer."""
        [windows] = computed
        [texts] = query.texts
        sent = dict(zip(self._names, texts, strict=True))
        token: int | None = wanted["target"]
        if token is not None:
            self._check_token_index(token, windows)
            window, edges = windows[0], {"start": token, "end": token}
        else:
            window, edges = self._best_edges(windows, sent["context"], query.parameters)
        return [
            Target(name, window.row, sent, output, (at,), per_token=True)
            for output, (name, at) in enumerate(edges.items())
        ]

    def _best_edges(
        self, windows: Sequence[Computed], context: str, wanted: QaParameters
    ) -> tuple[Computed, dict[str, int]]:
        """Return the window with the best answer, and the answer's first and last token there."""
        found = [(self._read_window(each, context, wanted).spans, each) for each in windows]
        ranked = [(*spans[0], window) for spans, window in found if spans]
        if not ranked:
            raise RequestError(422, "the context has no tokens; send at least one word")
        span, _, window = max(ranked, key=lambda each: each[1])
        # The span's score came from the best of the tokens that begin or end it.
        spans = self._spans(window, context)
        begin = [at for at, each in spans.items() if each[0] == span[0]]
        end = [at for at, each in spans.items() if each[1] == span[1]]
        starts, ends = window.outputs
        first, last = max(begin, key=starts.__getitem__), max(end, key=ends.__getitem__)
        return window, {"start": first, "end": last}

    def _read_window(self, window: Computed, context: str, wanted: QaParameters) -> WindowAnswers:
        assert window.row.encoding is not None
        null, spans = self._null_position(window.row.encoding), self._spans(window, context)
        kept = torch.tensor([*null, *spans], dtype=torch.int64)
        starts, ends = (
            torch.softmax(logits.float().cpu()[kept], dim=-1) for logits in window.outputs
        )
        null_score = (starts[0] * ends[0]).item() if null else 1.0
        scores = starts[len(null) :], ends[len(null) :]
        best = best_spans(*scores, list(spans.values()), wanted.max_answer_len, wanted.top_k)
        return WindowAnswers(null_score, best)

    def _spans(self, window: Computed, context: str) -> dict[int, Span]:
        """Return the characters of each token of the context, by the token's index in the row.

        Answers have no white space around them. A token may hold the space before its word
        (SentencePiece, and byte-level tokenizers that do not trim) or be a space: the answer starts
        after the space.
        """
        encoding = window.row.encoding
        assert encoding is not None
        places = [at for at, text in enumerate(encoding.sequence_ids) if text == self._context]
        spans = [self._characters(encoding, at) for at in places]
        return dict(zip(places, trimmed(spans, context), strict=True))

    def _null_position(self, encoding: Encoding) -> list[int]:
        """Find the token for "no answer"; a text that spells it does not count."""
        tokens = zip(encoding.ids, encoding.special_tokens_mask, strict=True)
        null = self._options.null_token
        return [at for at, (token, special) in enumerate(tokens) if special and token == null][:1]

    def _characters(self, encoding: Encoding, at: int) -> Span:
        """Return the characters of a token's word, or of the token where words are unknown."""
        word = encoding.token_to_word(at) if self._options.has_words else None
        span: Span | None = None if word is None else encoding.word_to_chars(word, self._context)
        return span or encoding.offsets[at]

    def plain_text(self, answer: Any) -> str:
        if isinstance(answer, list):
            return "\n".join(self.plain_text(entry) for entry in answer)
        return " ".join(answer["answer"].split())


def trimmed(spans: Sequence[Span], text: str) -> list[Span]:
    """Move starts forwards and ends backwards over white space, even past each other.

    Finds all runs of white space once: a text may have very many, or very long ones.
    """
    if not spans:
        return []
    covered = min(start for start, _ in spans), max(end for _, end in spans)
    runs = [run.span() for run in WHITE_SPACE.finditer(text, *covered)]
    beginnings = [start for start, _ in runs]

    def run_at(place: int) -> Span | None:
        at = bisect_right(beginnings, place) - 1
        return runs[at] if at >= 0 and place < runs[at][1] else None

    around = [(run_at(start), run_at(end - 1)) for start, end in spans]
    return [
        (before[1] if before else start, after[0] if after else end)
        for (start, end), (before, after) in zip(spans, around, strict=True)
    ]


def best_spans(
    starts: torch.Tensor, ends: torch.Tensor, spans: Sequence[Span], longest: int, top_k: int
) -> list[tuple[Span, float]]:
    """Return the best spans of a window with their scores, best first.

    A span's score is the probability of its first token as a start (`starts`, float `[tokens]`)
    times that of its last as an end (`ends`, the same). `spans` are the characters of each token;
    tokens with the same characters count once, with the best score. `longest` is in tokens.
    """
    count = len(spans)
    if not count:
        return []
    begin, end = torch.tensor(spans, dtype=torch.int64).unbind(1)
    first = torch.arange(count)[:, None]
    last = first + torch.arange(min(longest, count))[None, :]
    inside = last < count
    last = last.clamp(max=count - 1)
    scores = (starts[:, None] * ends[last])[inside]
    begins, finishes = begin[first].expand_as(last)[inside], end[last][inside]
    real = begins < finishes
    width = int(end.max()) + 1
    keys, groups = torch.unique((begins * width + finishes)[real], return_inverse=True)
    merged = torch.zeros(len(keys)).scatter_reduce(0, groups, scores[real], "amax")
    top = torch.topk(merged, min(top_k, len(keys)))
    chosen = [divmod(key, width) for key in keys[top.indices].tolist()]
    return list(zip(chosen, top.values.tolist(), strict=True))
