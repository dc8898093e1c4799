"""Extractive question answering: a question and its context -> the part that answers it.

Answers as the Hugging Face question-answering task does: `{"score", "start", "end", "answer"}`,
or the best answers in a list where `top_k` is over one. Source of the formula: transformers 4's
QuestionAnsweringPipeline (`postprocess`, `select_starts_ends`, `decode_spans`).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Encoding, Tokenizer

from torchscript_bundle.serving.api import fields
from torchscript_bundle.serving.api.json_schema import COUNT, NUMBER, STRING, array, either, record
from torchscript_bundle.serving.artifact import REMAKE, Bundle
from torchscript_bundle.serving.errors import ArtifactError, RequestError
from torchscript_bundle.serving.explanations.target import Index, Target
from torchscript_bundle.serving.modes.base import Computed, Query
from torchscript_bundle.serving.modes.checks import check_leaves_room, check_place
from torchscript_bundle.serving.text.tokenizer import Truncation

DOC_STRIDE = 128
MAX_ANSWER_LEN = 15
MOST_ANSWERS = 100
LONGEST_ANSWER = 256

PART = record({"score": NUMBER, "start": COUNT, "end": COUNT, "answer": STRING})

#: As `str.isspace` has it.
WHITE_SPACE = re.compile(r"\s+")

#: First and last character (exclusive) of an answer in the context.
Span = tuple[int, int]


@dataclass(frozen=True)
class Ask:
    """What a request asks of one context."""

    context: str
    top_k: int
    max_answer_len: int
    handle_impossible_answer: bool


class QuestionAnswering:
    """See the module."""

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
        missing = {"null_token", "has_words"} - bundle.mode_options.keys()
        if missing:
            raise ArtifactError(f"bundle.json: mode_options lacks {sorted(missing)}; {REMAKE}")
        self._null_token: int | None = bundle.mode_options["null_token"]
        self._has_words: bool = bundle.mode_options["has_words"]
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
        self._question_first = bundle.padding.side == "right"
        strategy = Truncation("only_second", windows=True)
        self.truncation = strategy if self._question_first else Truncation("only_first", True)

    def set_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Takes the artifact's tokenizer, before the first request."""
        self._tokenizer = tokenizer

    def decode(self, item: object, parameters: Mapping[str, object]) -> Query:
        read = fields.read_item(self.item_keys, item)
        question, context = read["question"], read["context"]
        check_leaves_room(self._tokenizer, question, self._half, "the question")
        wanted = fields.read_values(self.parameters, parameters)
        stride = wanted.pop("doc_stride")
        ask = Ask(context, **wanted)
        if ask.handle_impossible_answer and self._null_token is None:
            raise RequestError(
                422,
                "this model has no token that stands for no answer; "
                "leave handle_impossible_answer out",
            )
        texts = (question, context) if self._question_first else (context, question)
        return Query([texts], ask, stride)

    def encode(self, query: Query, computed: Sequence[Sequence[Computed]]) -> Any:
        [windows] = computed
        ask: Ask = query.options
        best: dict[Span, float] = {}
        null_score = 1.0
        for window in windows:
            null, found = self._read_window(window, ask)
            null_score = min(null_score, null)
            for span, score in found:
                best[span] = max(score, best.get(span, 0.0))
        if not best:
            raise RequestError(422, "the context has no tokens; send at least one word")
        ranked = sorted(best.items(), key=lambda entry: (-entry[1], entry[0]))[: ask.top_k]
        answers = [
            {"score": score, "start": start, "end": end, "answer": ask.context[start:end]}
            for (start, end), score in ranked
        ]
        if ask.handle_impossible_answer:
            answers.append({"score": null_score, "start": 0, "end": 0, "answer": ""})
            answers.sort(key=lambda answer: -answer["score"])  # type: ignore[operator]
        return answers[0] if ask.top_k == 1 else answers[: ask.top_k]

    def check_target(self, query: Query, wanted: Mapping[str, Any]) -> None:
        """Only the tokens tell whether there is one at the place that is asked for."""

    def targets(
        self, query: Query, computed: Sequence[Sequence[Computed]], wanted: Mapping[str, Any]
    ) -> list[Target]:
        """The logits of a token as start and as end; without one, those of the best answer's."""
        [windows] = computed
        [texts] = query.texts
        names = ("question", "context") if self._question_first else ("context", "question")
        sent = dict(zip(names, texts, strict=True))
        place: int | None = wanted["target"]
        if place is not None:
            check_place(place, windows)
            window, edges = windows[0], {"start": place, "end": place}
        else:
            window, edges = self._best_edges(windows, query.options)
        return [
            Target(name, window.row, sent, output, (at,), per_token=True)
            for output, (name, at) in enumerate(edges.items())
        ]

    def _best_edges(self, windows: Sequence[Computed], ask: Ask) -> tuple[Computed, dict[str, int]]:
        """Find the window with the best answer, and the answer's first and last token in it."""
        found = [(self._read_window(window, ask)[1], window) for window in windows]
        spans = [(best[0][1], best[0][0], window) for best, window in found if best]
        if not spans:
            raise RequestError(422, "the context has no tokens; send at least one word")
        _, span, window = max(spans, key=lambda each: each[0])
        return window, self._edges(window, ask, span)

    def _edges(self, window: Computed, ask: Ask, span: Span) -> dict[str, int]:
        """The tokens whose scores made a span's: of those that begin or end it, the best."""
        spans = self._spans(window, ask.context)
        context = list(spans)
        starts, ends = window.outputs
        return {
            "start": max((at for at in context if spans[at][0] == span[0]), key=starts.__getitem__),
            "end": max((at for at in context if spans[at][1] == span[1]), key=ends.__getitem__),
        }

    def _read_window(self, window: Computed, ask: Ask) -> tuple[float, list[tuple[Span, float]]]:
        """The score of "no answer" in a window, and its best answers."""
        assert window.row.encoding is not None
        null, spans = self._null_position(window.row.encoding), self._spans(window, ask.context)
        kept = torch.tensor([*null, *spans], dtype=torch.int64)
        starts, ends = (
            torch.softmax(logits.float().cpu()[kept], dim=-1) for logits in window.outputs
        )
        null_score = (starts[0] * ends[0]).item() if null else 1.0
        scores = starts[len(null) :], ends[len(null) :]
        found = best_spans(*scores, list(spans.values()), ask.max_answer_len, ask.top_k)
        return null_score, found

    def _spans(self, window: Computed, context: str) -> dict[int, Span]:
        """Characters of each token of the context, by its place in the row.

        An answer has no white space around it. Where a token holds the space before its word (as
        with SentencePiece, and byte-level tokenizers that are not told to trim), an answer that
        starts with it starts with the word; where a token is a space, with the next one.
        """
        encoding = window.row.encoding
        assert encoding is not None
        owner = 1 if self._question_first else 0
        places = [at for at, text in enumerate(encoding.sequence_ids) if text == owner]
        spans = [self._characters(encoding, at, owner) for at in places]
        return dict(zip(places, trimmed(spans, context), strict=True))

    def _null_position(self, encoding: Encoding) -> list[int]:
        """Where the token for "no answer" is; a text that spells it does not count."""
        tokens = zip(encoding.ids, encoding.special_tokens_mask, strict=True)
        return [
            at
            for at, (index, special) in enumerate(tokens)
            if special and index == self._null_token
        ][:1]

    def _characters(self, encoding: Encoding, at: int, owner: int) -> Span:
        """Characters of the word that a token is of; of the token, where words are not known."""
        word = encoding.token_to_word(at) if self._has_words else None
        span: Span | None = None if word is None else encoding.word_to_chars(word, owner)
        return span or encoding.offsets[at]

    def plain_text(self, answer: Any) -> str:
        if isinstance(answer, list):
            return "\n".join(self.plain_text(entry) for entry in answer)
        return " ".join(answer["answer"].split())


def trimmed(spans: Sequence[Span], text: str) -> list[Span]:
    """Move starts on, and ends back, over white space, each past the other if need be.

    Runs of white space are looked for once: a text may have very many, or very long ones.
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
    """The best spans of a window, the best first.

    The score of a span is that of its first token as a start times that of its last as an end; of
    spans of tokens that are the same characters, the best counts.

    Args:
        starts: `[tokens]`, the probability that an answer starts at each token of the context.
        ends: `[tokens]`, the same of its end.
        spans: the characters that each token stands for.
        longest: most tokens in an answer.
        top_k: how many to return; fewer where there are fewer.
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
