"""Which answers are written next, so that no request holds the others up.

Requests take turns. All that are open get a row before any gets a second one, so a list of many
texts has what the others leave. Where there are more requests than rows, a turn ends after a
while: those that had a row go to the end of the line.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from torchscript_bundle.serving.generation.answer import Answer

#: Every open request has had a turn within about this time, the reading of prompts aside (seconds).
ROUND_SECONDS = 5.0
#: The longest turn and the shortest one (seconds): to change rows costs time as well.
LONGEST_TURN, SHORTEST_TURN = 1.0, 0.1
#: How long prompts are read between two tokens of the others, if one alone does not take longer.
READING_SECONDS = 0.5
#: Then the others are written on for this part of the time that reading took, and only prompts are
#: read that take less than so many seconds. More would leave rows empty where many prompts wait.
WRITING_SHARE, SHORT_READING_SECONDS = 1 / 3, 0.05
#: Tokens that the rows may come to hold which have begun, with those that wait for their next turn,
#: for each token of the batch.
BEGUN = 2.0
#: Rows of at most such a part of the batch may begin where others may not: up to so many more.
SMALL, BEGUN_SMALL = 1 / 16, 2.5


@dataclass(eq=False)
class Group:
    """The answers of one request.

    Attributes:
        answers: those that are not done.
        streamed: whether the client sees tokens as they come.
        deadline: when it has taken too long, by `time.monotonic`.
    """

    answers: list[Answer]
    streamed: bool
    deadline: float


@dataclass(frozen=True)
class Limits:
    """What a batch may grow to.

    Attributes:
        rows: most answers that are written at once.
        tokens: most tokens that all of them may hold, prompts and padding included.
    """

    rows: int
    tokens: int


class Space:
    """Rows of a batch, each with as many places as the longest one needs.

    Args:
        limits: of the batch.
        begun: answers that have tokens; each keeps what was computed of it until it is done.
        places: tokens that a row may come to hold: of the text that an encoder reads, and of the
            decoder.
        reading: seconds that the prompt of an answer takes to read.
        rest: whether only short prompts are read now.
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
        """Answers that have begun before the others, those of the batch first."""
        return sorted(answers, key=lambda answer: self._begun.get(answer, len(self._begun)))

    @property
    def full(self) -> bool:
        """Whether no row is left."""
        return len(self.taken) >= self._limits.rows

    def take(self, answer: Answer) -> bool:
        """Takes a row for an answer, if there is room and time for it; returns whether."""
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
        """Whether there are memory and time for the first token of an answer."""
        share = BEGUN_SMALL if places <= SMALL * self._limits.tokens else BEGUN
        if self._begun_tokens + places > share * self._limits.tokens:
            return False
        # The first prompt is read however long it is; short ones need not wait for it.
        seconds = self._reading(answer) if self._reads else 0.0
        if seconds > self._left:
            return False
        self._left -= seconds
        self._reads = True
        self._begun_tokens += places
        return True


class Turns:
    """Requests in line.

    Args:
        rows: how many answers are written at once.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._began = 0.0
        self.groups: list[Group] = []

    def add(self, group: Group) -> None:
        """Puts a request at the end of the line."""
        self.groups.append(group)

    def forget_done(self) -> None:
        """Forgets answers that are done, and requests that have no others."""
        for group in self.groups:
            group.answers = [answer for answer in group.answers if not answer.done]
        self.groups = [group for group in self.groups if group.answers]

    @property
    def turn_seconds(self) -> float:
        """How long a turn is: the more requests, the shorter."""
        fair = ROUND_SECONDS * self._rows / max(1, len(self.groups))
        return max(SHORTEST_TURN, min(LONGEST_TURN, fair))

    def end_turn(self, now: float, running: Collection[Answer]) -> None:
        """Moves requests that have had a row for long enough behind those that have none.

        Args:
            now: `time.monotonic`.
            running: the answers in the batch.
        """
        if now - self._began < self.turn_seconds:
            return
        served = [group for group in self.groups if any(a in running for a in group.answers)]
        waiting = [group for group in self.groups if group not in served]
        if waiting:
            self.groups = waiting + served
            self._began = now

    def choose(self, space: Space) -> None:
        """Takes rows for the answers that are written next, those of the first in line first."""
        lines = [space.order(group.answers) for group in self.groups]
        depth = 0
        while lines and not space.full:
            lines = [line for line in lines if depth < len(line) and space.take(line[depth])]
            depth += 1
