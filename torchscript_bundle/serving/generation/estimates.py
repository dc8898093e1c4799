"""How fast texts are read and written here, and how long a request will probably take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torchscript_bundle.serving.generation.answer import Answer
from torchscript_bundle.serving.generation.turns import SHORT_READING_SECONDS, WRITING_SHARE

#: The weight of what was measured before: about the last twenty times count.
MEMORY = 0.95


@dataclass
class Ratio:
    """A quotient of two sums, in which what was added long ago fades.

    Attributes:
        least: the lowest quotient that was added.
    """

    over: float = 0.0
    under: float = 0.0
    least: float = math.inf

    def add(self, over: float, under: float) -> None:
        """Takes in what was measured."""
        self.over, self.under = MEMORY * self.over + over, MEMORY * self.under + under
        self.least = min(self.least, over / under)

    @property
    def value(self) -> float:
        """The quotient; 0 where nothing was measured."""
        return self.over / self.under if self.under else 0.0


class Pace:
    """What was measured.

    Attributes:
        steps: seconds of a step that writes a token of each row, by the number of rows: 1, 2 or 3,
            4 to 7, and so on.
        reading: seconds for each token of a prompt.
        length: tokens of an answer, for each that it might have had.
    """

    def __init__(self) -> None:
        self.steps: dict[int, Ratio] = {}
        self.reading, self.length = Ratio(), Ratio()

    def add_step(self, rows: int, seconds: float) -> None:
        """Takes in how long a step took."""
        self.steps.setdefault(rows.bit_length(), Ratio()).add(seconds, 1)

    def _step(self, rows: int) -> Ratio:
        """Of steps with so many rows; where there were none, with the nearest number below."""
        below = [size for size in self.steps if size <= rows.bit_length()]
        return self.steps[max(below)] if below else Ratio(least=0.0)

    def read_seconds(self, answers: Sequence[Answer]) -> float:
        """Seconds that the prompts take which were not read yet."""
        unread = sum(len(answer.prompt) for answer in answers if not answer.pieces)
        return self.reading.value * unread

    def least_seconds(self, answers: Sequence[Answer], rows: int) -> float:
        """How long a request takes with nothing else, at the best pace that was seen.

        Args:
            answers: of the request.
            rows: how many of them can be written at once.
        """
        tokens = [self._tokens_left(answer) for answer in answers]
        step = self._step(min(len(answers), rows))
        return step.least * max(*tokens, sum(tokens) / rows)

    def seconds(
        self, answers: Sequence[Answer], others: Sequence[Sequence[Answer]], rows: int
    ) -> float:
        """How long a request probably takes that takes turns with others.

        By the time that it has had its tokens, each other one has had as many, or all of its own.

        Args:
            answers: of the request.
            others: those of each other request.
            rows: how many are written at once.
        """
        tokens = [self._tokens_left(answer) for answer in answers]
        own = sum(tokens)
        shared = sum(min(own, sum(map(self._tokens_left, each))) for each in others)
        reading = (1 + WRITING_SHARE) * self._reading(answers, others)
        step = self._step(min(len(answers) + sum(map(len, others)), rows))
        return step.value * max(*tokens, (own + shared) / rows) + reading

    def _reading(self, answers: Sequence[Answer], others: Sequence[Sequence[Answer]]) -> float:
        """Seconds until the prompts of a request are read, those of others between them included.

        Short ones wait for the one that is being read alone; longer ones also for one of each other
        request at least.
        """
        own = self.read_seconds(answers)
        longest = [max((self.read_seconds([one]) for one in each), default=0.0) for each in others]
        shared = 0.0
        for each, one in zip(others, longest, strict=True):
            most = own if own <= SHORT_READING_SECONDS else max(own, one)
            shared += min(most, self.read_seconds(each))
        return own + shared + max(longest, default=0.0)

    def wait(self, others: Sequence[Sequence[Answer]], rows: int) -> int:
        """Seconds, at least one, until about the first of the open requests is done."""
        left = [sum(map(self._tokens_left, each)) for each in others]
        seconds = self._step(rows).value * min(left, default=0) * len(others) / rows
        return max(1, math.ceil(seconds))

    def _tokens_left(self, answer: Answer) -> float:
        """How many tokens an answer will probably still get; at least one."""
        return max(1.0, self.length.value * answer.most - len(answer.pieces))
