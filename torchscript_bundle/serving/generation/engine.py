"""Answers in turn: which are written now, which wait until there is room."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from torchscript_bundle.serving.errors import log_failure
from torchscript_bundle.serving.generation.answer import Answer
from torchscript_bundle.serving.generation.rows import Prompts, Rows


@dataclass(frozen=True)
class Limits:
    """What a batch may grow to.

    Attributes:
        rows: most answers that are written at once.
        tokens: most tokens that all of them may hold, prompts and padding included.
    """

    rows: int
    tokens: int


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
    """Writes answers, a token of each at a time. The first to come is the first to start.

    Args:
        module: a `Generator`, as `jit/generation/README.md` describes it.
        device: where it runs.
        limits: of the batch.
    """

    def __init__(self, module: Any, device: torch.device, limits: Limits) -> None:
        self._rows = Rows(module, device)
        self._reads_source = module.start_id >= 0
        self._limits = limits
        self._waiting: deque[Answer] = deque()
        self.counts = Counts()

    @property
    def running(self) -> int:
        """Answers in the batch."""
        return len(self._rows.answers)

    @property
    def waiting(self) -> int:
        """Answers that have not begun."""
        return len(self._waiting)

    def room_for(self, answer: Answer) -> bool:
        """Whether a batch with nothing else can hold it."""
        return self._tokens([answer]) <= self._limits.tokens

    def add(self, answer: Answer) -> None:
        """Puts an answer into the queue."""
        self._waiting.append(answer)

    def drop(self, answer: Answer) -> None:
        """Forgets an answer that nobody waits for; its row is freed before the next step."""
        answer.failed = True

    @torch.inference_mode()
    def step(self) -> None:
        """Writes the next token of each answer. Where the module fails, so do its answers."""
        self._waiting = deque(answer for answer in self._waiting if not answer.failed)
        self._rows.leave()
        joining = self._read(self._joining())
        if not joining and not self._rows.answers:
            return
        written = [*self._rows.answers, *(each for prompts in joining for each in prompts.answers)]
        try:
            self._rows.step(joining)
        except Exception as error:
            _fail(written, error)
        self.counts.steps += 1
        self.counts.tokens += len(written)
        self._rows.leave()

    def _read(self, answers: list[Answer]) -> list[Prompts]:
        """The prompts, together; where that fails, each is read alone and fails alone."""
        read = []
        groups = [answers] if answers else []
        while groups:
            group = groups.pop(0)
            try:
                read.append(self._rows.read(group))
                self.counts.prompts += len(group)
            except Exception as error:
                if len(group) == 1:
                    _fail(group, error)
                else:
                    groups = [[answer] for answer in group]
        return read

    def _joining(self) -> list[Answer]:
        """Those next in the queue that there is room for."""
        joining: list[Answer] = []
        while self._waiting and self._fits([*self._rows.answers, *joining, self._waiting[0]]):
            joining.append(self._waiting.popleft())
        return joining

    def _fits(self, answers: Sequence[Answer]) -> bool:
        return len(answers) <= self._limits.rows and self._tokens(answers) <= self._limits.tokens

    def _tokens(self, answers: Sequence[Answer]) -> int:
        """Most tokens that these may come to hold: all rows are as long as the longest."""
        if self._reads_source:
            source = max(len(answer.prompt) for answer in answers)
            return len(answers) * (source + 1 + max(answer.most for answer in answers))
        return len(answers) * max(len(answer.prompt) + answer.most for answer in answers)


def _fail(answers: Sequence[Answer], error: Exception) -> None:
    log_failure("writing", error)
    for answer in answers:
        answer.failed = True
