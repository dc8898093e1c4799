"""The batch that is being written: a cache, and beside it a row of options for each answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchscript_bundle.serving.batching import pad
from torchscript_bundle.serving.generation.answer import Answer

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

    def leave(self) -> None:
        """Frees the rows of answers that are done."""
        finished = torch.tensor([answer.done for answer in self.answers], dtype=torch.bool)
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
        """Frees all of them."""
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
            if self.answers:
                self._cache = self._module.merge(self._cache, prompts.cache)
                self._seen = torch.cat([self._seen, prompts.seen])
            else:
                self._cache, self._seen = prompts.cache, prompts.seen
            self._change([*self.answers, *prompts.answers])
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
        tokens: Tensor = self._module.sample(logits, self._seen, *self._options, drawn)
        for before, (row, token) in zip(kept, forced.items(), strict=True):
            # The token that the model preferred is not there.
            self._seen[row] = before
            self._seen[row, token] = True
            tokens[row] = token
        logits = logits.float()
        chosen = logits.gather(1, tokens.unsqueeze(1)).squeeze(1)
        shares = chosen - logits.logsumexp(1)
        self._tokens = tokens
        for answer, token, share in zip(
            self.answers, tokens.tolist(), shares.tolist(), strict=True
        ):
            answer.add(token, share)

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
