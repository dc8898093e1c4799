"""Estimates of the seconds of requests, from prompts and steps measured before."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from torchscript_bundle.serving.engine.pace import FadingMean
from torchscript_bundle.serving.generation.answer import Answer
from torchscript_bundle.serving.generation.request_queue import SHORT_READING_SECONDS, WRITING_SHARE

#: The weight of earlier measurements: about the last twenty count.
MEMORY = 0.95


class GenerationPace:
    def __init__(self) -> None:
        # By the bit length of the number of rows: 1, 2 or 3, 4 to 7, and so on.
        self._steps: defaultdict[int, FadingMean] = defaultdict(FadingMean)
        self._fastest_steps: dict[int, float] = {}
        self._prompt_token = FadingMean()
        self._used_length = FadingMean()

    def add_step(self, rows: int, seconds: float) -> None:
        """Learn from a step that generated a token of each row."""
        size = rows.bit_length()
        self._steps[size].add(seconds, 1, keep=MEMORY)
        self._fastest_steps[size] = min(self._fastest_steps.get(size, math.inf), seconds)

    def add_prompts(self, tokens: int, seconds: float) -> None:
        """Learn from prompts that were read."""
        self._prompt_token.add(seconds / tokens, tokens, keep=MEMORY)

    def add_answer(self, tokens: int, most: int) -> None:
        """Learn how much of its maximum length an answer used."""
        self._used_length.add(tokens / most, most, keep=MEMORY)

    def forget_answers(self) -> None:
        """Forget how long answers were."""
        self._used_length = FadingMean()

    def _size(self, rows: int) -> int:
        """Return the key of steps with this number of rows, or of the next lower measured one."""
        return max((size for size in self._steps if size <= rows.bit_length()), default=0)

    def _step_seconds(self, rows: int) -> float:
        size = self._size(rows)
        return self._steps[size].value if size else 0.0

    def prompt_seconds(self, answers: Sequence[Answer]) -> float:
        """Return the seconds of reading the prompts that are still unread."""
        unread = sum(len(answer.prompt) for answer in answers if not answer.pieces)
        return self._prompt_token.value * unread

    def least_seconds(self, answers: Sequence[Answer], rows: int) -> float:
        """Return a request's seconds alone, at the best pace so far and `rows` at a time."""
        tokens = [self._tokens_left(answer) for answer in answers]
        step = self._fastest_steps.get(self._size(min(len(answers), rows)), 0.0)
        return step * max(*tokens, sum(tokens) / rows)

    def seconds(
        self, answers: Sequence[Answer], others: Sequence[Sequence[Answer]], rows: int
    ) -> float:
        """Return the probable seconds of a request that takes turns with the answers of others.

        By the time that it has its tokens, each other request has as many, or all of its own.
        """
        tokens = [self._tokens_left(answer) for answer in answers]
        own = sum(tokens)
        shared = sum(min(own, sum(map(self._tokens_left, each))) for each in others)
        reading = (1 + WRITING_SHARE) * self._reading(answers, others)
        step = self._step_seconds(min(len(answers) + sum(map(len, others)), rows))
        return step * max(*tokens, (own + shared) / rows) + reading

    def _reading(self, answers: Sequence[Answer], others: Sequence[Sequence[Answer]]) -> float:
        """Return the seconds until the prompts are read, those of others in between included.

        Long prompts also wait for at least one of each other request.
        """
        own = self.prompt_seconds(answers)
        longest = [
            max((self.prompt_seconds([one]) for one in each), default=0.0) for each in others
        ]
        shared = 0.0
        for each, one in zip(others, longest, strict=True):
            most = own if own <= SHORT_READING_SECONDS else max(own, one)
            shared += min(most, self.prompt_seconds(each))
        return own + shared + max(longest, default=0.0)

    def wait(self, others: Sequence[Sequence[Answer]], rows: int) -> int:
        """Return the seconds, at least one, until about the first open request is done."""
        left = [sum(map(self._tokens_left, each)) for each in others]
        seconds = self._step_seconds(rows) * min(left, default=0) * len(others) / rows
        return max(1, math.ceil(seconds))

    def _tokens_left(self, answer: Answer) -> float:
        """Return the probable number of further tokens of an answer, at least one."""
        return max(1.0, self._used_length.value * answer.most - len(answer.pieces))
