"""The running batch: one cache, with a row for each answer."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchscript_bundle.serving.api.sampling import COLUMNS
from torchscript_bundle.serving.engine.padding import pad
from torchscript_bundle.serving.errors import RequestError, log_failure
from torchscript_bundle.serving.generation.answer import FAILED, Answer

logger = logging.getLogger(__name__)

#: Larger logits fail their row: no model has them, and the bounds of `Settings` allow parameters
#: that would make them infinite.
MOST_LOGIT = 1e30
NOT_FINITE = RequestError(
    500,
    "what the model computed for this text is not finite: its weights are damaged, or the text is "
    "too much for their precision; send another text",
)


@dataclass
class Prefilled:
    """Answers read together; `logits` and `seen` (a row's tokens) are `[batch, vocabulary]`."""

    answers: Sequence[Answer]
    logits: Tensor
    cache: list[Tensor]
    seen: Tensor


@dataclass
class PausedRow:
    """The row, without padding, of an answer that waits for its next turn.

    `token`, int64 `[1]`, is the last one, still unread by the model; `seen`, bool
    `[1, vocabulary]`, marks the tokens that the row already has.
    """

    cache: list[Tensor]
    token: Tensor
    seen: Tensor


class RunningBatch:
    """Answers that get a token in each step; they join and leave between two steps."""

    def __init__(self, module: Any, device: torch.device) -> None:
        self._module = module
        self._device = device
        self.answers: list[Answer] = []
        self._cache: list[Tensor] = []
        self._seen = torch.empty(0)
        self._tokens = torch.empty(0, dtype=torch.int64)
        self._columns: dict[str, Tensor] = {}
        self._paused: dict[Answer, PausedRow] = {}

    @property
    def paused(self) -> Collection[Answer]:
        """Answers that wait for their next turn, the longest wait first."""
        return self._paused.keys()

    def leave(self) -> None:
        """Free the rows of finished answers."""
        self._paused = {answer: row for answer, row in self._paused.items() if not answer.done}
        self._remove([answer.done for answer in self.answers])

    def pause(self, answers: Sequence[Answer]) -> None:
        """Take answers out of the batch and keep their rows, so that nothing is computed twice."""
        leaving = set(answers)
        for row, answer in enumerate(self.answers):
            if answer in leaving:
                self._paused[answer] = self._copy(row)
        self._remove([answer in leaving for answer in self.answers])

    def resume(self, answers: Sequence[Answer]) -> None:
        """Put paused answers back into the batch."""
        # The longest first: it reserves enough memory for all others.
        for answer in sorted(answers, key=lambda each: -self._paused[each].cache[0].size(1)):
            row = self._paused.pop(answer)
            self._tokens = torch.cat([self._tokens[: len(self.answers)], row.token])
            self._join([answer], row.cache, row.seen)

    def _copy(self, row: int) -> PausedRow:
        mask, source = self._cache[0][row : row + 1], self._cache[1][row : row + 1]
        length, width = mask.size(1), int(source.sum())
        padding = length - int(mask.sum())
        kept = [mask[:, padding:].clone(), source[:, :width].clone()]
        for at, buffer in enumerate(self._cache[2:]):
            places = slice(padding, length) if at < self._module.growing else slice(width)
            kept.append(buffer[row : row + 1, :, places].clone())
        seen = self._seen[row : row + 1].clone()
        return PausedRow(kept, self._tokens[row : row + 1].clone(), seen)

    def _join(self, answers: Sequence[Answer], cache: list[Tensor], seen: Tensor) -> None:
        if self.answers:
            self._cache = self._module.merge(self._cache, cache)
            self._seen = torch.cat([self._seen, seen])
        else:
            self._cache, self._seen = cache, seen
        self._set_answers([*self.answers, *answers])

    def _remove(self, leaving: Sequence[bool]) -> None:
        finished = torch.tensor(leaving, dtype=torch.bool)
        if not bool(finished.any()):
            return
        if bool(finished.all()):
            self.clear()
            return
        rows = self._module.rows_left(finished.to(self._device))
        self._cache = self._module.select_rows(self._cache, rows)
        self._tokens, self._seen = self._tokens[rows], self._seen[rows]
        self._set_answers([self.answers[row] for row in rows.tolist()])

    def clear(self) -> None:
        """Free all rows of the batch; paused ones are kept."""
        self._cache = []
        self._set_answers([])

    def _set_answers(self, answers: list[Answer]) -> None:
        self.answers = answers
        self._columns = {
            name: torch.tensor(
                [getattr(answer.settings, name) for answer in answers],
                dtype=dtype,
                device=self._device,
            )
            for name, dtype in COLUMNS.items()
        }

    def read(self, answers: Sequence[Answer]) -> Prefilled:
        """Read the prompts of answers that may join the batch, which an error leaves unchanged."""
        ids, mask = pad_prompts(self._module, [answer.prompt for answer in answers], self._device)
        seen: Tensor = self._module.seen_tokens(ids, mask)
        logits, cache = self._module.prefill(ids, mask, max(answer.most for answer in answers))
        return Prefilled(answers, logits, cache, seen)

    def step(self, joining: Sequence[Prefilled]) -> None:
        """Generate the next token of each answer; if the module raises, its rows are unusable."""
        logits = []
        if self.answers:
            ahead, self._cache = self._module.step(self._tokens, self._cache)
            logits.append(ahead)
        for prefilled in joining:
            logits.append(prefilled.logits)
            self._join(prefilled.answers, prefilled.cache, prefilled.seen)
        self._sample(torch.cat(logits))

    def _sample(self, logits: Tensor) -> None:
        draws = [answer.draw() if answer.settings.do_sample else 0.0 for answer in self.answers]
        logits = self._without_bad_rows(logits.float())
        self._tokens = tokens = self._module.sample(
            self._with_forced_tokens(logits),
            self._seen,
            **self._columns,
            draws=torch.tensor(draws, dtype=torch.float64, device=self._device),
        )
        chosen = logits.gather(1, tokens.unsqueeze(1)).squeeze(1)
        # A forced token may be one whose logit is minus infinity.
        logprobs = (chosen - logits.logsumexp(1)).clamp(min=torch.finfo(torch.float32).min)
        for answer, token, logprob in zip(
            self.answers, tokens.tolist(), logprobs.tolist(), strict=True
        ):
            _add(answer, token, logprob)

    def _without_bad_rows(self, logits: Tensor) -> Tensor:
        """Fail answers whose logits are NaN or huge, and zero these. Minus infinity is fine."""
        good = logits.amax(1).abs() <= MOST_LOGIT  # false of NaN
        if bool(good.all()):
            return logits
        for answer, is_good in zip(self.answers, good.tolist(), strict=True):
            if not is_good:
                logger.error("the logits of a row are not finite: its answer failed")
                answer.fail(NOT_FINITE)
        return logits.masked_fill(~good.unsqueeze(1), 0.0)

    def _with_forced_tokens(self, logits: Tensor) -> Tensor:
        """Set all but a row's forced token to -inf, so that sampling keeps it (as transformers)."""
        first, last = self._module.first_id, self._module.last_id
        forced = {}
        for row, answer in enumerate(self.answers):
            if first >= 0 and not answer.pieces:
                forced[row] = first
            elif last >= 0 and len(answer.pieces) == answer.most - 1:
                forced[row] = last
        if not forced:
            return logits
        rows, logits = list(forced), logits.clone()
        logits[rows] = -torch.inf
        logits[rows, list(forced.values())] = 0.0
        return logits


def _add(answer: Answer, token: int, logprob: float) -> None:
    """An error in detokenizing fails this answer alone."""
    if answer.done:
        return
    try:
        answer.add(token, logprob)
    except Exception as error:
        log_failure("spelling an answer", error)
        answer.fail(FAILED)


def pad_prompts(
    module: Any, prompts: Sequence[Sequence[int]], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return ids and mask, int64 `[batch, length]`, padded right for an encoder, else left."""
    length = max(map(len, prompts))
    side = "left" if module.start_id < 0 else "right"
    ids = [pad(prompt, length, module.pad_id, side) for prompt in prompts]
    mask = [pad([1] * len(prompt), length, 0, side) for prompt in prompts]
    return (
        torch.tensor(ids, dtype=torch.int64, device=device),
        torch.tensor(mask, dtype=torch.int64, device=device),
    )
