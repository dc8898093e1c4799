"""Continuous batching: requests join and leave the running batch between two tokens."""

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
from torchscript_bundle.serving.generation.estimates import GenerationPace
from torchscript_bundle.serving.generation.request_queue import (
    WRITING_SHARE,
    Limits,
    NextBatch,
    QueuedRequest,
    RequestQueue,
)
from torchscript_bundle.serving.generation.running_batch import Prefilled, RunningBatch
from torchscript_bundle.serving.observing.caller import Caller
from torchscript_bundle.serving.observing.steps import step

#: The part of a request's time that reading one of its prompts may take.
LONGEST_READING = 0.5
LATER = "send it again later"
LESS = "send fewer texts or a lower max_new_tokens"


@dataclass
class Counts:
    """Totals since the start: forward passes of the batch, tokens, and prompts read."""

    steps: int = 0
    tokens: int = 0
    prompts: int = 0


class Scheduler:
    """Decides which answers run, and runs a `Generator` (`jit/generation/README.md`) step by step.

    A request may take `patience` seconds, or until the deadline in its own headers; a streamed one,
    until its first token: what has begun to come is never cut short.
    """

    def __init__(
        self, module: Any, device: torch.device, limits: Limits, patience: float = math.inf
    ) -> None:
        self._batch = RunningBatch(module, device)
        self._reads_source = module.start_id >= 0
        self._limits = limits
        self._patience = patience
        self._queue = RequestQueue(limits.rows)
        # Seconds of steps before more long prompts are read.
        self._writing_due = 0.0
        self.pace = GenerationPace()
        self.counts = Counts()

    @property
    def running(self) -> int:
        """Answers in the batch."""
        return len(self._batch.answers)

    @property
    def waiting(self) -> int:
        """Answers without a row."""
        return sum(map(len, self._open)) - self.running

    @property
    def _open(self) -> list[list[Answer]]:
        return [request.answers for request in self._queue.requests]

    def room_for(self, answer: Answer) -> bool:
        """Return whether an otherwise empty batch can hold an answer."""
        return sum(self._places(answer)) <= self._limits.tokens

    def add(
        self, answers: Sequence[Answer], *, streamed: bool = False, caller: Caller | None = None
    ) -> None:
        """Queue a request; 413 if it alone takes too long, 503 if too much is queued before it."""
        self._check_time(answers, streamed=streamed)
        deadline = time.monotonic() + self._patience
        request = QueuedRequest(list(answers), streamed, deadline, caller or Caller())
        self._queue.add(request)

    def drop(self, answer: Answer) -> None:
        """Forget an answer that nobody waits for; the next step frees its row."""
        if not answer.done:
            answer.fail(FAILED)

    @torch.inference_mode()
    def step(self) -> None:
        """Generate the next token of each answer with a row; if the module fails, fail them."""
        self._end_late_requests()
        self._queue.forget_done()
        self._batch.leave()
        started = time.monotonic()
        joining = self._read(self._change_rows(started))
        if not joining and not self._batch.answers:
            return
        if joining:
            seconds = time.monotonic() - started
            tokens = sum(len(answer.prompt) for read in joining for answer in read.answers)
            self.pace.add_prompts(tokens, seconds)
            self._writing_due += WRITING_SHARE * seconds
        running = [*self._batch.answers, *(each for read in joining for each in read.answers)]
        started = time.monotonic()
        with step("forward", self._callers(running), rows=len(running)):
            try:
                self._batch.step(joining)
            except Exception as error:
                self._batch.clear()
                _fail(running, error)
        seconds = time.monotonic() - started
        self.pace.add_step(len(running), seconds)
        self._writing_due = max(0.0, self._writing_due - seconds) if self._batch.answers else 0.0
        self.counts.steps += 1
        self.counts.tokens += len(running)
        for answer in running:
            if answer.done and answer.error is None:
                self.pace.add_answer(len(answer.pieces), answer.most)
        self._queue.forget_done()
        self._batch.leave()

    def _change_rows(self, now: float) -> list[Answer]:
        """Pause and resume answers by their turns; return those with an unread prompt."""
        running = list(self._batch.answers)
        if not self.waiting:
            return []
        self._queue.end_turn(now, frozenset(running))
        batch = NextBatch(
            self._limits,
            [*running, *self._batch.paused],
            self._places,
            lambda answer: self.pace.prompt_seconds([answer]),
            rest=bool(running) and self._writing_due > 0,
        )
        self._queue.fill(batch)
        chosen = set(batch.taken)
        self._batch.pause([answer for answer in running if answer not in chosen])
        self._batch.resume([answer for answer in batch.taken if answer in self._batch.paused])
        return [answer for answer in batch.taken if not answer.pieces]

    def _read(self, answers: list[Answer]) -> list[Prefilled]:
        """Read prompts of similar lengths together; where that fails, each alone."""
        read = []
        groups = _of_similar_lengths(answers)
        while groups:
            group = groups.pop(0)
            with step("forward", self._callers(group), rows=len(group)):
                try:
                    read.append(self._batch.read(group))
                    self.counts.prompts += len(group)
                except Exception as error:
                    if len(group) == 1:
                        _fail(group, error)
                    else:
                        groups = [*([answer] for answer in group), *groups]
        return read

    def _callers(self, answers: Sequence[Answer]) -> list[Caller]:
        """Return whose the answers of a pass are."""
        among = frozenset(answers)
        requests = self._queue.requests
        return [each.caller for each in requests if not among.isdisjoint(each.answers)]

    def _check_time(self, answers: Sequence[Answer], *, streamed: bool) -> None:
        others = self._open
        if len(others) >= REQUESTS_PER_ROW * self._limits.rows:
            wait = self.pace.wait(others, self._limits.rows)
            raise RequestError(503, "too many texts are being written; " + LATER, retry_after=wait)
        longest = max(answers, key=lambda answer: len(answer.prompt))
        if self.pace.prompt_seconds([longest]) > LONGEST_READING * self._patience:
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
        now = time.monotonic()
        for request in self._queue.requests:
            if request.streamed and any(answer.pieces for answer in request.answers):
                continue
            if (error := self._late(request, now)) is not None:
                for answer in request.answers:
                    answer.fail(error)

    def _late(self, request: QueuedRequest, now: float) -> RequestError | None:
        """Return the error of a request whose time is over."""
        try:
            request.caller.check_deadline()
        except RequestError as error:
            return error
        if now <= request.deadline:
            return None
        return RequestError(
            503,
            f"this was not done in time; {self._has}; {LESS}, or {LATER}",
            retry_after=self.pace.wait(self._open, self._limits.rows),
        )

    @property
    def _has(self) -> str:
        return f"a request has {self._patience:.0f} s (response_timeout)"

    def _places(self, answer: Answer) -> tuple[int, int]:
        """Return the most tokens of an answer's row: of the source, of the decoder."""
        if self._reads_source:
            return len(answer.prompt), 1 + answer.most
        return 0, len(answer.prompt) + answer.most


def _of_similar_lengths(answers: Sequence[Answer]) -> list[list[Answer]]:
    """Group answers so that the longest prompt is at most twice as long as the shortest."""
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
