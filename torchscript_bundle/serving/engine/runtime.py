"""The loaded module on this machine: warm-up, forward passes, estimates."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import torch

from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.engine.costs import USUAL, CostModel, Sample
from torchscript_bundle.serving.engine.executors import Executor, ModuleExecutor
from torchscript_bundle.serving.engine.loaders import LOADERS
from torchscript_bundle.serving.engine.memory import release_memory
from torchscript_bundle.serving.engine.pace import Estimate, Pace, fastest
from torchscript_bundle.serving.engine.padding import Collator, Outputs, Tokens, padded_length
from torchscript_bundle.serving.engine.planner import plan_passes
from torchscript_bundle.serving.engine.precisions import LoadedModule, Running, build_executor
from torchscript_bundle.serving.engine.torchscript import Forward
from torchscript_bundle.serving.text.tokenizer import Row

logger = logging.getLogger(__name__)

#: How often each sample is timed, once it has run.
TIMED_CALLS = 2
#: The time of passes between two looks at the clock (seconds).
SLICE_SECONDS = 0.5
#: Longest row to time at the start. Tokens of longer ones cost more, as later passes show.
LONGEST_TIMED = 512
#: Lengths and rows of the samples: enough tokens to measure the costs, few enough to start soon.
LENGTHS, ROWS = (16, 128), 8


class Runtime:
    """Runs rows, at most `max_rows` in one pass; `narrow` selects what to keep of outputs."""

    def __init__(
        self,
        folder: Path,
        bundle: Bundle,
        device: torch.device,
        max_rows: int,
        narrow: Callable[[Row, Outputs], Outputs] | None = None,
    ) -> None:
        self.device = device
        self._folder = folder
        self._bundle = bundle
        self._max_rows = max_rows
        self._collator = Collator(bundle, device, narrow or (lambda _, outputs: outputs))
        self._module = LOADERS[bundle.save_mode](folder, bundle, device)
        self.executor: Executor = ModuleExecutor(self._collator, self._module)
        self._costs = USUAL
        self._pace = Pace()

    @property
    def tokens(self) -> Tokens:
        """The tokens of all passes since the warm-up."""
        return self.executor.tokens

    @property
    def module(self) -> Forward:
        """The module as saved; `prepare` drops it if the executor and explanations do without."""
        return self._module

    @property
    def running(self) -> Running:
        """The precision that rows run in."""
        return Running(self.executor.precision, self.executor.reason)

    def prepare(self, text: Row, *, pack_weights: bool) -> None:
        """Build the fastest executor; warm it up on a word, as some models need a real token."""
        # A name for the LoadedModule would keep the module from being freed.
        self.executor = build_executor(
            LoadedModule(self._folder, self._module, self._collator, self._max_rows, text),
            pack_weights=pack_weights,
        )
        if not (self.executor.holds_module or self._bundle.explanations):
            del self._module
            release_memory()
        self._warm_up(text)

    @torch.inference_mode()
    def run(self, rows: Sequence[Row]) -> list[Outputs]:
        """Return each row's outputs on the host, without padding: the same that it gets alone."""
        passes = plan_passes(
            [len(row) for row in rows],
            self._bundle,
            self._max_rows,
            self.executor.pass_costs(self._costs),
            self.executor.merge_counts,
        )
        outputs = self.executor.run_passes(
            [[[rows[index] for index in batch] for batch in batches] for batches in passes]
        )
        order = chain.from_iterable(chain.from_iterable(passes))
        found = dict(zip(order, outputs, strict=True))
        return [found[index] for index in range(len(rows))]

    def run_until(self, rows: Sequence[Row], deadline: float) -> list[Outputs | None]:
        """Run rows, short ones first, up to a `time.monotonic()`; those not begun get None."""
        results: list[Outputs | None] = [None] * len(rows)
        for indices in self._slices(rows):
            started = time.monotonic()
            if started > deadline:
                break
            before = self.tokens
            for at, outputs in zip(indices, self.run([rows[at] for at in indices]), strict=True):
                results[at] = outputs
            took = self.tokens - before
            self._pace.saw(took.computed, time.monotonic() - started)
        return results

    def _slices(self, rows: Sequence[Row]) -> Iterator[list[int]]:
        """Cut rows into runs of at most `SLICE_SECONDS`, or of one row, in order of length."""
        lengths = self._padded(rows)
        most = self._pace.tokens(SLICE_SECONDS)
        if sum(lengths) <= most:
            yield list(range(len(rows)))
            return
        run: list[int] = []
        tokens = 0
        for at in sorted(range(len(rows)), key=lengths.__getitem__):
            if run and tokens + lengths[at] > most:
                yield run
                run, tokens = [], 0
            run.append(at)
            tokens += lengths[at]
        yield run

    def estimate(self, rows: Sequence[Row]) -> Estimate:
        """Estimate the seconds of rows on this machine, now and at best."""
        return self._pace.estimate(self._padded(rows))

    def _padded(self, rows: Sequence[Row]) -> list[int]:
        return [padded_length(len(row), self._bundle) for row in rows]

    def _warm_up(self, text: Row) -> None:
        started = time.perf_counter()
        executor = self.executor
        # A merged-batch function ran every comparison shape while packing; one is enough.
        shapes = warm_up_shapes(self._bundle, self._max_rows)[
            : 1 if executor.merge_counts else None
        ]
        for number, (batch, length) in enumerate(shapes, start=1):
            rows = [text.stretched(length)] * batch
            for _ in range(executor.warm_up_calls if number == 1 else 1):
                self.run(rows)
            logger.info("warm-up %d/%d: batch %d, length %d", number, len(shapes), batch, length)
        shapes = [*shapes, *executor.tune(text)]
        if prices_matter(self._bundle, self._max_rows) and not executor.merge_counts:
            self._measure(text, shapes)
        self._time_longest(text)
        executor.tokens = Tokens()
        logger.info("warm-up took %.1f s", time.perf_counter() - started)

    def _measure(self, text: Row, shapes: Sequence[tuple[int, int]]) -> None:
        """Fit costs to the fastest pass of each shape, timed in turns: the least disturbed one."""
        seconds = dict.fromkeys(shapes, float("inf"))
        for _ in range(TIMED_CALLS):
            for batch, length in shapes:
                took = self._time([text.stretched(length)] * batch)
                seconds[batch, length] = min(seconds[batch, length], took)
        samples = [Sample(*shape, took) for shape, took in seconds.items()]
        self._costs = CostModel.fit(samples)
        logger.info(
            "a pass costs as much as %.1f tokens, and its tokens; the samples took %s ms",
            self._costs.call,
            [round(1000 * sample.seconds, 1) for sample in samples],
        )

    def _time_longest(self, text: Row) -> None:
        """Learn this machine's pace from the fastest of several passes of one long row."""
        row = text.stretched(min(self._bundle.max_length, LONGEST_TIMED))
        took = fastest(lambda: self._time([row]))
        self._pace = Pace()
        self._pace.saw(padded_length(len(row), self._bundle), took)

    def _time(self, rows: Sequence[Row]) -> float:
        started = time.perf_counter()
        self.run(rows)
        return time.perf_counter() - started


def warm_up_shapes(bundle: Bundle, max_rows: int) -> list[tuple[int, int]]:
    """Return the shapes, `(batch, length)`, to run before the first request.

    After the first calls at one shape any other is fast; the costs need few tokens, more of them in
    several rows, and more in one row.
    """
    lengths = sorted({min(max(length, bundle.min_length), bundle.max_length) for length in LENGTHS})
    if not bundle.dynamic_length:
        lengths = list(bundle.traced_lengths)
    shapes = [(1, length) for length in lengths]
    rows = min(max_rows, ROWS) if bundle.dynamic_batch else 1
    return shapes if rows == 1 else [*shapes, (rows, lengths[0])]


def prices_matter(bundle: Bundle, max_rows: int) -> bool:
    """Return whether rows of different lengths may share a pass, so that its cost decides."""
    return (
        max_rows > 1
        and bundle.dynamic_batch
        and bundle.mixes_lengths
        and bundle.min_length < bundle.max_length
    )
