"""Requests whose answers are written together, a token of each at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from torchscript_bundle.serving.artifact import REQUESTS_PER_ROW
from torchscript_bundle.serving.errors import RequestError, log_failure
from torchscript_bundle.serving.generation.answer import FAILED, Answer
from torchscript_bundle.serving.generation.estimates import Pace
from torchscript_bundle.serving.generation.running_batch import Prompts, Rows
from torchscript_bundle.serving.generation.turns import WRITING_SHARE, Group, Limits, Space, Turns

#: The part of the time that a request has which the reading of one prompt may take.
LONGEST_READING = 0.5
LATER = "send it again later"
LESS = "send fewer texts or a lower max_new_tokens"


@dataclass
class Counts:
    """What was done so far, for whoever watches.

    Attributes:
        steps: forward passes of the batch.
        tokens: tokens that were written.
        prompts: prompts that were read.
    """

    steps: int = 0
    tokens: int = 0
    prompts: int = 0


class Engine:
    """Writes answers; `turns` says how requests share the batch.

    Args:
        module: a `Generator`, as `jit/generation/README.md` describes it.
        device: where it runs.
        limits: of the batch.
        patience: seconds that a request may take; of one that is streamed, until its first token.
    """

    def __init__(
        self, module: Any, device: torch.device, limits: Limits, patience: float = math.inf
    ) -> None:
        self._rows = Rows(module, device)
        self._reads_source = module.start_id >= 0
        self._limits = limits
        self._patience = patience
        self._turns = Turns(limits.rows)
        # Seconds of writing before more long prompts are read.
        self._writing_due = 0.0
        self.pace = Pace()
        self.counts = Counts()

    @property
    def running(self) -> int:
        """Answers in the batch."""
        return len(self._rows.answers)

    @property
    def waiting(self) -> int:
        """Answers that have no row now."""
        return sum(len(group.answers) for group in self._turns.groups) - self.running

    def room_for(self, answer: Answer) -> bool:
        """Whether a batch with nothing else can hold it."""
        return sum(self._places(answer)) <= self._limits.tokens

    def add(self, answers: Sequence[Answer], *, streamed: bool = False) -> None:
        """Takes a request.

        Raises:
            RequestError: it cannot be done in time: 413 where it alone takes too long, 503 where
                others are before it.
        """
        self._check_time(answers, streamed=streamed)
        deadline = time.monotonic() + self._patience
        self._turns.add(Group(list(answers), streamed, deadline))

    def drop(self, answer: Answer) -> None:
        """Forgets an answer that nobody waits for; its row is freed before the next step."""
        if not answer.done:
            answer.fail(FAILED)

    @torch.inference_mode()
    def step(self) -> None:
        """Writes the next token of each answer that has a row.

        Where the module fails, so do the answers that it was run for.
        """
        self._end_late_requests()
        self._turns.forget_done()
        self._rows.leave()
        started = time.monotonic()
        joining = self._read(self._change_rows(started))
        if not joining and not self._rows.answers:
            return
        self._measure_reading(joining, time.monotonic() - started)
        written = [*self._rows.answers, *(each for prompts in joining for each in prompts.answers)]
        started = time.monotonic()
        try:
            self._rows.step(joining)
        except Exception as error:
            self._rows.clear()
            _fail(written, error)
        seconds = time.monotonic() - started
        self.pace.add_step(len(written), seconds)
        self._writing_due = max(0.0, self._writing_due - seconds) if self._rows.answers else 0.0
        self.counts.steps += 1
        self.counts.tokens += len(written)
        for answer in written:
            if answer.done and answer.error is None:
                self.pace.length.add(len(answer.pieces), answer.most)
        self._turns.forget_done()
        self._rows.leave()

    def _change_rows(self, now: float) -> list[Answer]:
        """Gives rows to those whose turn it is; returns those whose prompts are to be read."""
        running = list(self._rows.answers)
        if not self.waiting:
            return []
        self._turns.end_turn(now, frozenset(running))
        begun = [*running, *self._rows.paused]
        space = Space(
            self._limits,
            begun,
            self._places,
            self._reading_seconds,
            rest=bool(running) and self._writing_due > 0,
        )
        self._turns.choose(space)
        chosen = set(space.taken)
        self._rows.pause([answer for answer in running if answer not in chosen])
        self._rows.resume([answer for answer in space.taken if answer in self._rows.paused])
        return [answer for answer in space.taken if not answer.pieces]

    def _read(self, answers: list[Answer]) -> list[Prompts]:
        """Reads prompts, those of like lengths together; where that fails, each alone."""
        read = []
        groups = _of_like_lengths(answers)
        while groups:
            group = groups.pop(0)
            try:
                read.append(self._rows.read(group))
                self.counts.prompts += len(group)
            except Exception as error:
                if len(group) == 1:
                    _fail(group, error)
                else:
                    groups = [*([answer] for answer in group), *groups]
        return read

    def _measure_reading(self, read: Sequence[Prompts], seconds: float) -> None:
        if read:
            tokens = sum(len(answer.prompt) for prompts in read for answer in prompts.answers)
            self.pace.reading.add(seconds, tokens)
            self._writing_due += WRITING_SHARE * seconds

    def _check_time(self, answers: Sequence[Answer], *, streamed: bool) -> None:
        """Raises RequestError for a request that cannot be done in time."""
        others = [group.answers for group in self._turns.groups]
        if len(others) >= REQUESTS_PER_ROW * self._limits.rows:
            wait = self.pace.wait(others, self._limits.rows)
            raise RequestError(503, "too many texts are being written; " + LATER, retry_after=wait)
        longest = max(answers, key=lambda answer: len(answer.prompt))
        if self.pace.read_seconds([longest]) > LONGEST_READING * self._patience:
            raise RequestError(413, f"to read a text takes too long here; {self._has}; shorten it")
        if streamed:
            return
        largest = max(sum(self._places(answer)) for answer in answers)
        rows = max(1, min(self._limits.rows, self._limits.tokens // largest))
        if (least := self.pace.least_seconds(answers, rows)) > self._patience:
            raise RequestError(413, f"this takes {least:.0f} s or more; {self._has}; {LESS}")
        needed = self.pace.seconds(answers, others, rows)
        if others and needed > self._patience:
            raise RequestError(
                503,
                f"this would take about {needed:.0f} s beside what is being written; {self._has}; "
                + LATER,
                retry_after=max(1, math.ceil(needed - self._patience)),
            )

    def _end_late_requests(self) -> None:
        """Fails what has taken too long."""
        now = time.monotonic()
        for group in self._turns.groups:
            seen = group.streamed and any(answer.pieces for answer in group.answers)
            if now > group.deadline and not seen:
                error = RequestError(
                    503,
                    f"this was not done in time; {self._has}; {LESS}, or {LATER}",
                    retry_after=self.pace.wait(
                        [each.answers for each in self._turns.groups], self._limits.rows
                    ),
                )
                for answer in group.answers:
                    answer.fail(error)

    @property
    def _has(self) -> str:
        """How much time there is, for a message."""
        return f"a request has {self._patience:.0f} s (response_timeout)"

    def _reading_seconds(self, answer: Answer) -> float:
        return self.pace.read_seconds([answer])

    def _places(self, answer: Answer) -> tuple[int, int]:
        """Tokens that an answer's row may come to hold: of the source, and of what is written."""
        if self._reads_source:
            return len(answer.prompt), 1 + answer.most
        return 0, len(answer.prompt) + answer.most


def _of_like_lengths(answers: Sequence[Answer]) -> list[list[Answer]]:
    """Groups in which the longest prompt is at most twice as long as the shortest."""
    groups: list[list[Answer]] = []
    for answer in sorted(answers, key=lambda each: len(each.prompt)):
        if groups and len(answer.prompt) <= 2 * len(groups[-1][0].prompt):
            groups[-1].append(answer)
        else:
            groups.append([answer])
    return groups


def _fail(answers: Sequence[Answer], error: Exception) -> None:
    log_failure("writing", error)
    for answer in answers:
        answer.fail(FAILED)
