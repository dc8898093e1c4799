"""The choice of the answers with a row in the next step, so that no request blocks the others.

Each open request gets a row before any gets a second one. Where there are more requests than
rows, a turn ends after a while, and requests that had a row go to the end of the queue.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from torchscript_bundle.serving.generation.answer import Answer
from torchscript_bundle.serving.observing.caller import Caller

#: Every open request has a turn within about this time, the reading of prompts aside (seconds).
ROUND_SECONDS = 5.0
#: The longest and the shortest turn (seconds); changing rows takes time, too.
LONGEST_TURN, SHORTEST_TURN = 1.0, 0.1
#: The time for prompts between two steps (seconds), unless one alone takes longer.
READING_SECONDS = 0.5
#: Then the running answers go on for this part of the reading time, with only prompts of up to the
#: second number of seconds. A larger part would leave rows empty where many prompts wait.
WRITING_SHARE, SHORT_READING_SECONDS = 1 / 3, 0.05
#: Tokens that all answers with a cache, running and paused, may reach, per token of the batch.
BEGUN = 2.0
#: Answers of at most the first part of the batch may begin up to the second, higher limit.
SMALL, BEGUN_SMALL = 1 / 16, 2.5


@dataclass(eq=False)
class QueuedRequest:
    """The unfinished answers of one request, which fail at `deadline` (`time.monotonic`)."""

    answers: list[Answer]
    streamed: bool
    deadline: float
    caller: Caller = field(default_factory=Caller)


@dataclass(frozen=True)
class Limits:
    """The largest batch: its rows, and the tokens of all of them, prompts and padding included."""

    rows: int
    tokens: int


class NextBatch:
    """The rows of the next step, each with as many places as the longest one needs.

    Args:
        begun: running and paused answers, which keep their caches until they are done.
        places: returns the most tokens of an answer's row: of the source, and of the decoder.
        reading: returns the seconds of reading an answer's prompt.
        rest: read only short prompts now.
    """

    def __init__(
        self,
        limits: Limits,
        begun: Sequence[Answer],
        places: Callable[[Answer], tuple[int, int]],
        reading: Callable[[Answer], float],
        *,
        rest: bool,
    ) -> None:
        self._limits, self._places, self._reading = limits, places, reading
        self._begun = {answer: at for at, answer in enumerate(begun)}
        self._begun_tokens = sum(sum(places(answer)) for answer in begun)
        self._longest = (0, 0)
        self._reads = rest
        self._left = SHORT_READING_SECONDS if rest else READING_SECONDS
        self.taken: list[Answer] = []

    def order(self, answers: Sequence[Answer]) -> list[Answer]:
        """Sort answers: running ones, paused ones, new ones."""
        return sorted(answers, key=lambda answer: self._begun.get(answer, len(self._begun)))

    @property
    def full(self) -> bool:
        """Whether no row is left."""
        return len(self.taken) >= self._limits.rows

    def take(self, answer: Answer) -> bool:
        """Take a row for an answer if there are room and time; return whether it did."""
        source, target = self._places(answer)
        longest = max(self._longest[0], source), max(self._longest[1], target)
        if self.full or (len(self.taken) + 1) * sum(longest) > self._limits.tokens:
            return False
        if answer not in self._begun and not self._begin(answer, source + target):
            return False
        self._longest = longest
        self.taken.append(answer)
        return True

    def _begin(self, answer: Answer, places: int) -> bool:
        factor = BEGUN_SMALL if places <= SMALL * self._limits.tokens else BEGUN
        if self._begun_tokens + places > factor * self._limits.tokens:
            return False
        # The first prompt is read however long it is; short ones need not wait for it.
        seconds = self._reading(answer) if self._reads else 0.0
        if seconds > self._left:
            return False
        self._left -= seconds
        self._reads = True
        self._begun_tokens += places
        return True


class RequestQueue:
    """Open requests in the order of their turns; `rows` of their answers run at once."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._turn_began = 0.0
        self.requests: list[QueuedRequest] = []

    def add(self, request: QueuedRequest) -> None:
        """Put a request at the end of the queue."""
        self.requests.append(request)

    def forget_done(self) -> None:
        """Forget finished answers, and requests without any other."""
        for request in self.requests:
            request.answers = [answer for answer in request.answers if not answer.done]
        self.requests = [request for request in self.requests if request.answers]

    @property
    def turn_seconds(self) -> float:
        """The length of a turn: the more requests, the shorter."""
        fair = ROUND_SECONDS * self._rows / max(1, len(self.requests))
        return max(SHORTEST_TURN, min(LONGEST_TURN, fair))

    def end_turn(self, now: float, running: Collection[Answer]) -> None:
        """Move requests with a `running` answer behind those without, if the turn is over `now`."""
        if now - self._turn_began < self.turn_seconds:
            return
        served = [each for each in self.requests if any(a in running for a in each.answers)]
        waiting = [each for each in self.requests if each not in served]
        if waiting:
            self.requests = waiting + served
            self._turn_began = now

    def fill(self, batch: NextBatch) -> None:
        """Take rows for the next step: one for each request in turn, until the batch is full."""
        lines = [batch.order(request.answers) for request in self.requests]
        depth = 0
        while lines and not batch.full:
            lines = [line for line in lines if depth < len(line) and batch.take(line[depth])]
            depth += 1
