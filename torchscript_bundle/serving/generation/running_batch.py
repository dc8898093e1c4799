"""The batch that is being written: a cache, and beside it a row of options for each answer."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchscript_bundle.serving.engine.padding import pad
from torchscript_bundle.serving.errors import RequestError, log_failure
from torchscript_bundle.serving.generation.answer import FAILED, Answer

logger = logging.getLogger(__name__)

#: Logits that are larger are no numbers to choose by: an option that is allowed could make them
#: infinite (`settings` has the bounds), and no model has them.
MOST_LOGIT = 1e30
NOT_FINITE = RequestError(
    500,
    "what the model computed for this text is not finite: its weights are damaged, or the text is "
    "too much for their precision; send another text",
)
#: Options that `Generator.sample` takes a tensor of, with their types.
OPTIONS = {
    "do_sample": torch.bool,
    "temperature": torch.float64,
    "top_k": torch.int64,
    "top_p": torch.float64,
    "repetition_penalty": torch.float64,
}


@dataclass
class Prompts:
    """Prompts that were read.

    Attributes:
        answers: those that begin with them.
        logits: float `[batch, vocabulary]`, of their first tokens.
        cache: of them alone.
        seen: bool `[batch, vocabulary]`, the tokens that are there already.
    """

    answers: Sequence[Answer]
    logits: Tensor
    cache: list[Tensor]
    seen: Tensor


@dataclass
class Paused:
    """The row of an answer that waits for its next turn.

    Attributes:
        cache: of it alone, without padding.
        token: int64 `[1]`, its last one, which was not read yet.
        seen: bool `[1, vocabulary]`, the tokens that are there already.
    """

    cache: list[Tensor]
    token: Tensor
    seen: Tensor


class Rows:
    """Answers that are written together; they join and leave between two tokens.

    Args:
        module: a `Generator`, as `jit/generation/README.md` describes it.
        device: where it runs.
    """

    def __init__(self, module: Any, device: torch.device) -> None:
        self._module = module
        self._device = device
        self.answers: list[Answer] = []
        self._cache: list[Tensor] = []
        self._seen = torch.empty(0)
        self._tokens = torch.empty(0, dtype=torch.int64)
        self._options: list[Tensor] = []
        self._paused: dict[Answer, Paused] = {}

    @property
    def paused(self) -> Collection[Answer]:
        """Answers that wait for their next turn, the one that waits longest first."""
        return self._paused.keys()

    def leave(self) -> None:
        """Frees the rows of answers that are done."""
        self._paused = {answer: row for answer, row in self._paused.items() if not answer.done}
        self._remove([answer.done for answer in self.answers])

    def pause(self, answers: Sequence[Answer]) -> None:
        """Takes answers out of the batch; what was computed for them is kept.

        So they go on later as if they had stayed: nothing is computed again.
        """
        leaving = set(answers)
        for row, answer in enumerate(self.answers):
            if answer in leaving:
                self._paused[answer] = self._copy(row)
        self._remove([answer in leaving for answer in self.answers])

    def resume(self, answers: Sequence[Answer]) -> None:
        """Puts paused answers back into the batch."""
        # The longest first: memory that is long enough for all is then reserved but once.
        for answer in sorted(answers, key=lambda each: -self._paused[each].cache[0].size(1)):
            row = self._paused.pop(answer)
            self._tokens = torch.cat([self._tokens[: len(self.answers)], row.token])
            self._join([answer], row.cache, row.seen)

    def _copy(self, row: int) -> Paused:
        mask, source = self._cache[0][row : row + 1], self._cache[1][row : row + 1]
        length, width = mask.size(1), int(source.sum())
        padding = length - int(mask.sum())
        kept = [mask[:, padding:].clone(), source[:, :width].clone()]
        for at, buffer in enumerate(self._cache[2:]):
            places = slice(padding, length) if at < self._module.growing else slice(width)
            kept.append(buffer[row : row + 1, :, places].clone())
        seen = self._seen[row : row + 1].clone()
        return Paused(kept, self._tokens[row : row + 1].clone(), seen)

    def _join(self, answers: Sequence[Answer], cache: list[Tensor], seen: Tensor) -> None:
        if self.answers:
            self._cache = self._module.merge(self._cache, cache)
            self._seen = torch.cat([self._seen, seen])
        else:
            self._cache, self._seen = cache, seen
        self._change([*self.answers, *answers])

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
        self._change([self.answers[row] for row in rows.tolist()])

    def clear(self) -> None:
        """Frees the rows of the batch."""
        self._cache = []
        self._change([])

    def read(self, answers: Sequence[Answer]) -> Prompts:
        """Reads prompts, beside those that are written.

        Raises:
            Exception: the module failed; the rows are as they were.
        """
        ids, mask = pad_prompts(self._module, [answer.prompt for answer in answers], self._device)
        seen: Tensor = self._module.seen_tokens(ids, mask)
        logits, cache = self._module.prefill(ids, mask, max(answer.most for answer in answers))
        return Prompts(answers, logits, cache, seen)

    def step(self, joining: Sequence[Prompts]) -> None:
        """Writes the next token of each answer, and the first of those that join.

        Raises:
            Exception: the module failed; the rows cannot be used any more.
        """
        logits = []
        if self.answers:
            ahead, self._cache = self._module.step(self._tokens, self._cache)
            logits.append(ahead)
        for prompts in joining:
            logits.append(prompts.logits)
            self._join(prompts.answers, prompts.cache, prompts.seen)
        self._write(torch.cat(logits))

    def _change(self, answers: list[Answer]) -> None:
        self.answers = answers
        self._options = [
            torch.tensor(
                [getattr(answer.settings, name) for answer in answers],
                dtype=dtype,
                device=self._device,
            )
            for name, dtype in OPTIONS.items()
        ]

    def _write(self, logits: Tensor) -> None:
        draws = [answer.draw() if answer.settings.do_sample else 0.0 for answer in self.answers]
        forced = self._forced()
        kept = self._seen[list(forced)]
        drawn = torch.tensor(draws, dtype=torch.float64, device=self._device)
        logits = self._without_bad_rows(logits.float())
        tokens: Tensor = self._module.sample(logits, self._seen, *self._options, drawn)
        for before, (row, token) in zip(kept, forced.items(), strict=True):
            # The token that the model preferred is not there.
            self._seen[row] = before
            self._seen[row, token] = True
            tokens[row] = token
        chosen = logits.gather(1, tokens.unsqueeze(1)).squeeze(1)
        # A token that comes in any case may be one that the model rules out.
        shares = (chosen - logits.logsumexp(1)).clamp(min=torch.finfo(torch.float32).min)
        self._tokens = tokens
        for answer, token, share in zip(
            self.answers, tokens.tolist(), shares.tolist(), strict=True
        ):
            _add(answer, token, share)

    def _without_bad_rows(self, logits: Tensor) -> Tensor:
        """The logits, with zeros in rows that are no numbers; their answers fail, and no others.

        A token that the model rules out may have minus infinity.
        """
        good = logits.amax(1).abs() <= MOST_LOGIT  # false of NaN
        if bool(good.all()):
            return logits
        for answer, is_good in zip(self.answers, good.tolist(), strict=True):
            if not is_good:
                logger.error("the logits of a row are not finite: its answer failed")
                answer.fail(NOT_FINITE)
        return logits.masked_fill(~good.unsqueeze(1), 0.0)

    def _forced(self) -> dict[int, int]:
        """Row -> the token that comes next whatever the model says."""
        first, last = self._module.first_id, self._module.last_id
        forced = {}
        for row, answer in enumerate(self.answers):
            if first >= 0 and not answer.pieces:
                forced[row] = first
            elif last >= 0 and len(answer.pieces) == answer.most - 1:
                forced[row] = last
        return forced


def _add(answer: Answer, token: int, share: float) -> None:
    """Gives an answer its next token; an error in its spelling is that answer's alone."""
    if answer.done:
        return
    try:
        answer.add(token, share)
    except Exception as error:
        log_failure("spelling an answer", error)
        answer.fail(FAILED)


def pad_prompts(
    module: Any, prompts: Sequence[Sequence[int]], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Ids and mask, int64 `[batch, length]`: an encoder reads texts padded on the right."""
    length = max(map(len, prompts))
    side = "left" if module.start_id < 0 else "right"
    ids = [pad(prompt, length, module.pad_id, side) for prompt in prompts]
    mask = [pad([1] * len(prompt), length, 0, side) for prompt in prompts]
    return (
        torch.tensor(ids, dtype=torch.int64, device=device),
        torch.tensor(mask, dtype=torch.int64, device=device),
    )
