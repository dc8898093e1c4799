"""Trials of a generator: the methods that serving calls, compared with transformers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.generation.eager_oracle import dictated_logits, greedy_answers
from torchscript_bundle.export.generation.facts import GeneratorFacts
from torchscript_bundle.jit.tracing import Tensors
from torchscript_bundle.jit.verify import Case, Shape, last_line

#: Tokens that are read after a text: more than the reserved room, so that the cache grows.
NEW = 6
ROOM = 2
SEED = 0
Run = Callable[[Any, tuple[Any, ...]], Tensors]


@dataclass(frozen=True)
class Trial:
    """Cases of one kind, with transformers' outputs; `run` gives a generator's."""

    name: str
    run: Run
    cases: list[Case]


class Trials:
    """Makes the trials of a model, the same ones each time, with texts of `ordinary` token ids."""

    def __init__(self, model: Any, facts: GeneratorFacts, ordinary: Tensor) -> None:
        self._model = model
        self._facts = facts
        self._ordinary = ordinary
        self._generator = torch.Generator().manual_seed(SEED)
        self._longest = facts.max_source_length or facts.max_length - NEW

    def make(self) -> list[Trial]:
        """Run the model on all trials."""
        return [
            Trial("texts that are continued", dictated, self._dictated()),
            Trial("batches that others join and leave", joined, [self._joined()]),
            Trial("whole answers", generated, self._generated()),
        ]

    def _dictated(self) -> list[Case]:
        longest = self._longest
        lengths = {length for length in (1, 5, 16, 33) if length < longest}
        shapes = [Shape(n, m, n > 1) for m in sorted(lengths) for n in (1, 2, 5)]
        shapes += [Shape(2, max(1, longest // 2)), Shape(2, longest, padded=True)]
        cases = [self._dictate(shape, NEW) for shape in shapes]
        if self._facts.start_id >= 0:  # the length of the source does not limit the answer
            shape = Shape(1, min(5, longest))
            cases.append(self._dictate(shape, self._facts.max_length - 1))
        else:  # the longest text that a request may hold
            cases.append(self._dictate(Shape(1, self._facts.max_length - 1), 1))
        cases.append(self._dictate(Shape(2, min(16, longest), padded=True, spelled=True), NEW))
        return cases

    def _dictate(self, shape: Shape, new: int) -> Case:
        ids, mask = self._texts(shape)
        if shape.spelled:
            self._spell(ids[-1])
        tokens = self._pick(shape.batch, new)
        return Case(shape, (ids, mask, tokens), (self._logits(shape, ids, mask, tokens),))

    def _joined(self) -> Case:
        """Make three batches: of two rows, of three shorter ones, and of one longer one."""
        groups = []
        scale = min(1.0, self._longest / 20)
        for batch, length, new in ((2, 9, 7), (3, 5, 6), (1, 14, 2)):
            shape = Shape(batch, max(1, int(length * scale)), padded=True)
            ids, mask = self._texts(shape)
            groups.append((shape, ids, mask, self._pick(batch, new)))
        inputs = [(ids, mask, tokens) for _, ids, mask, tokens in groups]
        expected = [self._logits(*group) for group in groups]
        return Case(
            Shape(sum(shape.batch for shape, *_ in groups), groups[-1][0].length, padded=True),
            tuple(inputs),
            tuple(logits for group in expected for logits in group),
        )

    def _generated(self) -> list[Case]:
        """Make the third token of the first row an end token for all."""
        cases = []
        for batch, length in ((1, 7), (4, 12)):
            shape = Shape(batch, min(length, self._longest), padded=batch > 1)
            ids, mask = self._texts(shape)
            new = min(16, self._facts.max_length - length)
            endless = greedy_answers(self._model, self._facts, ids, mask, new, ())
            ends = (int(endless[0, min(2, new - 1)]), self._facts.pad_id)
            answers = greedy_answers(self._model, self._facts, ids, mask, new, ends)
            cases.append(Case(shape, (ids, mask, new, ends), (answers,)))
        return cases

    def _texts(self, shape: Shape) -> tuple[Tensor, Tensor]:
        """Return ids and mask; padded rows have different amounts of padding, the last none."""
        ids, mask = self._pick(shape.batch, shape.length), torch.ones(shape.batch, shape.length)
        mask = mask.long().to(ids.device)
        for row in range(shape.batch - 1 if shape.padded else 0):
            gap = (shape.length - 1) * (shape.batch - row) // shape.batch
            filled = slice(0, gap) if self._facts.start_id < 0 else slice(shape.length - gap, None)
            mask[row, filled], ids[row, filled] = 0, self._facts.pad_id
        return ids, mask

    def _spell(self, row: Tensor) -> None:
        """Replace the first tokens by special ones, as a chat template would; keep the last."""
        facts = self._facts
        every = {*facts.eos_ids, facts.pad_id, facts.start_id, facts.first_id, facts.last_id}
        special = sorted(token for token in every if token >= 0)[: len(row) - 1]
        row[: len(special)] = torch.tensor(special, device=row.device)

    def _pick(self, batch: int, length: int) -> Tensor:
        picks = torch.randint(len(self._ordinary), (batch, length), generator=self._generator)
        return self._ordinary[picks].to(self._model.device)

    def _logits(self, shape: Shape, ids: Tensor, mask: Tensor, tokens: Tensor) -> Tensor:
        try:
            return dictated_logits(self._model, self._facts, ids, mask, tokens)
        except Exception as error:  # a model's own code runs here
            raise ExportError(
                f"the model's own generate fails at {shape} with {tokens.shape[1]} new tokens: "
                f"{last_line(error)}; another max_length may help"
            ) from error


def dictated(generator: Any, inputs: tuple[Any, ...]) -> Tensors:
    """Return the logits before each given token, float `[batch, new, vocabulary]`."""
    ids, mask, tokens = inputs
    logits, cache = generator.prefill(ids, mask, ROOM)
    found = [logits]
    for column in tokens[:, :-1].unbind(1):
        logits, cache = generator.step(column, cache)
        found.append(logits)
    return (torch.stack(found, 1),)


def joined(generator: Any, groups: tuple[Any, ...]) -> Tensors:
    """Return the logits of three batches, which join one by one while rows leave."""
    rows: list[tuple[int, int]] = []
    found: dict[tuple[int, int], list[Tensor]] = {}
    cache: list[Tensor] = []

    def note(logits: Tensor) -> None:
        for row, each in zip(rows, logits, strict=True):
            found[row].append(each)

    def join(group: int) -> None:
        nonlocal cache
        ids, mask, _ = groups[group]
        logits, theirs = generator.prefill(ids, mask, ROOM)
        new = [(group, row) for row in range(len(ids))]
        found.update({row: [each] for row, each in zip(new, logits, strict=True)})
        cache = generator.merge(cache, theirs) if cache else theirs
        rows.extend(new)

    def keep(places: Tensor) -> None:
        nonlocal cache
        cache = generator.select_rows(cache, places)
        rows[:] = [rows[place] for place in places.tolist()]

    def step(times: int) -> None:
        nonlocal cache
        for _ in range(times):
            last = [groups[group][2][row, len(found[group, row]) - 1] for group, row in rows]
            logits, cache = generator.step(torch.stack(last), cache)
            note(logits)

    def leave() -> None:
        done = [len(found[group, row]) == groups[group][2].shape[1] for group, row in rows]
        keep(generator.rows_left(torch.tensor(done)))

    join(0)
    step(2)
    join(1)
    step(4)
    leave()
    join(2)
    keep(torch.arange(len(rows)).flip(0))
    step(1)
    leave()
    return tuple(torch.stack(found[row]) for row in sorted(found))


def generated(generator: Any, inputs: tuple[Any, ...]) -> Tensors:
    """Return whole answers, int64 `[batch, new]`."""
    ids, mask, new, ends = inputs
    return (generator.generate(ids, mask, new, eos_ids=list(ends)),)
