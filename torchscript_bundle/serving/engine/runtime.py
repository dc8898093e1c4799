"""The loaded module on this machine: device, warm-up, forward passes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import torch

from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.engine.batching import TokenCount, Tokens, pad_batch, padded_length
from torchscript_bundle.serving.engine.comparison import packing_rows
from torchscript_bundle.serving.engine.costs import USUAL, CostModel, Sample
from torchscript_bundle.serving.engine.cuda import CARDS, CardPasses
from torchscript_bundle.serving.engine.loaders import LOADERS, Module
from torchscript_bundle.serving.engine.memory import release_memory
from torchscript_bundle.serving.engine.onednn import Method, Packed
from torchscript_bundle.serving.engine.onednn.shared_weights import share_weights
from torchscript_bundle.serving.engine.pace import Pace, fastest
from torchscript_bundle.serving.engine.passes import plan_passes, useful_counts
from torchscript_bundle.serving.engine.precisions import Running, Start, make_running
from torchscript_bundle.serving.engine.torchscript import freeze
from torchscript_bundle.serving.text.tokenizer import Row

logger = logging.getLogger(__name__)

#: One row's outputs, in the order of `Bundle.outputs`.
Outputs = tuple[torch.Tensor, ...]

#: The profiling executor, which runs what is not packed, compiles on the first calls at any shape
#: and is fast from the third on.
WARM_UP_CALLS = 3
#: How often each sample is timed, once it has run.
TIMED_CALLS = 2
#: Passes between which nobody looks at the clock take no longer (seconds).
SLICE_SECONDS = 0.5
#: Longest row of which the time is taken when a worker starts: attention makes tokens of longer
#: ones dearer still, which passes will tell.
LONGEST_TIMED = 512
#: Lengths and rows of the samples: enough tokens to see what each costs, few enough to start soon.
LENGTHS, ROWS = (16, 128), 8


@dataclass(frozen=True)
class Taking:
    """A pass's outputs -> what is kept of one row.

    Attributes:
        bundle: says which outputs have an entry for each token, and on which side is padding.
        narrow: what is kept of a row's outputs.
    """

    bundle: Bundle
    narrow: Callable[[Row, Outputs], Outputs]

    def __call__(self, outputs: Outputs, at: int, row: Row) -> Outputs:
        """Of row `at`; of an output with an entry for each token, those of real tokens."""
        length = len(row)
        real = slice(-length, None) if self.bundle.padding.side == "left" else slice(length)
        pairs = zip(self.bundle.outputs, outputs, strict=True)
        return self.narrow(
            row,
            tuple(tensor[at][real] if spec.per_token else tensor[at] for spec, tensor in pairs),
        )


class Runtime:
    """Runs rows through the artifact's module.

    Args:
        folder: the artifact's folder.
        bundle: its `bundle.json`.
        device: where the module runs.
        max_rows: most rows in one forward pass.
        narrow: what is kept of a row's outputs; None keeps them whole.

    Raises:
        ArtifactError: the module cannot be loaded by what is installed.
    """

    def __init__(
        self,
        folder: Path,
        bundle: Bundle,
        device: torch.device,
        max_rows: int,
        narrow: Callable[[Row, Outputs], Outputs] | None = None,
    ) -> None:
        self._folder = folder
        self._bundle = bundle
        self._device = device
        self._max_rows = max_rows
        self._take = Taking(bundle, narrow or (lambda _, outputs: outputs))
        self._module = LOADERS[bundle.save_mode](folder, bundle, device)
        self._running = Running(self._module)
        self._costs = USUAL
        self._count = TokenCount()
        self._pace = Pace()
        self._card: CardPasses | None = None

    @property
    def device(self) -> torch.device:
        """Where the module runs."""
        return self._device

    @property
    def tokens(self) -> Tokens:
        """What was computed since the warm-up."""
        return self._count.total

    @property
    def module(self) -> Module:
        """The loaded module, as saved; there is none any more once it is packed, see `pack`."""
        return self._module

    @property
    def running(self) -> Running:
        """What computes, in which precision."""
        return self._running

    def pack(self, text: Row) -> None:
        """Lets a ScriptModule run in the artifact's precision, on packed weights on a CPU.

        Explanations need gradients, which those have not: only for them is the module kept as well.

        Args:
            text: a tokenized word, to compare answers with.

        Raises:
            ArtifactError: the artifact lacks what its precision needs.
        """
        if not isinstance(self._module, torch.jit.ScriptModule):
            return
        start = Start(
            self._folder,
            self._module,
            self._examples(text),
            explained=self._bundle.explanations,
            counts=useful_counts(self._bundle, self._max_rows),
        )
        self._running = make_running(start, self._bundle.precision, self._device)
        if isinstance(self._running.forward, Packed) and not self._bundle.explanations:
            del self._module
            release_memory()

    def share(self, folder: Path) -> None:
        """Holds packed weights in memory once for all workers that are given this folder."""
        packed = self._running.forward
        if isinstance(packed, Packed):
            share_weights([*packed.methods.values(), *packed.joined.values()], folder)
            release_memory()

    def _examples(self, text: Row) -> list[tuple[torch.Tensor, ...]]:
        """Arguments on which what computes otherwise is compared with the module."""
        groups = packing_rows(self._bundle, self._max_rows, text)
        return [self._arguments(rows) for rows in groups]

    def _arguments(self, rows: Sequence[Row]) -> tuple[torch.Tensor, ...]:
        return tuple(each.to(self._device) for each in pad_batch(rows, self._bundle))

    def freeze(self, text: Row) -> None:
        """Makes weights of a ScriptModule that is not packed constants, where answers stay equal.

        Args:
            text: a tokenized word, to compare answers with.
        """
        plain = self._running.forward
        if isinstance(plain, torch.jit.ScriptModule):
            frozen = freeze(plain, self._examples(text))
            self._running = replace(self._running, forward=frozen)

    @torch.inference_mode()
    def run(self, rows: Sequence[Row]) -> list[Outputs]:
        """The module's outputs for each row, in order, on the host, without padding.

        A padded batch gives each row what it gets alone; neighbours only share the pass.
        """
        return self._card(rows, self._costs) if self._card else self._run_plainly(rows)

    def run_until(self, rows: Sequence[Row], deadline: float) -> list[Outputs | None]:
        """Return what `run` gives for as many rows as the time is enough for, short ones first.

        Args:
            rows: of any lengths.
            deadline: `time.monotonic()` after which no further pass is begun.

        Returns:
            For each row its outputs, in order; None where it was not run.
        """
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

    def seconds(self, rows: Sequence[Row]) -> float:
        """Return what rows take at the present pace of this machine (estimated)."""
        return self._pace.seconds(self._padded(rows))

    def least_seconds(self, rows: Sequence[Row]) -> float:
        """Return what rows take where the machine does nothing else (estimated)."""
        return self._pace.least_seconds(self._padded(rows))

    def _padded(self, rows: Sequence[Row]) -> list[int]:
        return [padded_length(len(row), self._bundle) for row in rows]

    def _run_plainly(self, rows: Sequence[Row]) -> list[Outputs]:
        results: list[Outputs] = [()] * len(rows)
        lengths = [len(row) for row in rows]
        for indices in plan_passes(
            lengths, self._bundle, self._max_rows, list(self._joined), self._costs
        ):
            batches = [[rows[index] for index in batch] for batch in indices]
            for batch, outputs in zip(indices, self._pass(batches), strict=True):
                for at, index in enumerate(batch):
                    results[index] = self._take(outputs, at, rows[index])
        return results

    @property
    def _joined(self) -> Mapping[int, Method]:
        """What runs several batches in one pass."""
        packed = self._running.forward
        return packed.joined if isinstance(packed, Packed) else {}

    def _pass(self, batches: Sequence[Sequence[Row]]) -> Sequence[Outputs]:
        """What the module gives for each batch."""
        inputs = [self._arguments(rows) for rows in batches]
        computed = sum(each[0].numel() for each in inputs)
        self._count.add(Tokens(computed, sum(len(row) for rows in batches for row in rows)))
        if len(inputs) == 1:
            return [self._running.forward(*inputs[0])]
        outputs: Sequence[Outputs] = self._joined[len(inputs)](*chain.from_iterable(inputs))
        return outputs

    def warm_up(self, text: Row) -> None:
        """Runs what compiles the module, and a sample of shapes.

        Where rows of any length may share a batch, and batches no pass, it also measures what
        passes cost.

        Args:
            text: a tokenized word; it is stretched to each length. Padding alone will not do: some
                models look for a token that every real text has.
        """
        started = time.perf_counter()
        packed = isinstance(self._running.forward, Packed)
        # What shares passes has run at all shapes that it was compared at.
        shapes = warm_up_shapes(self._bundle, self._max_rows)[: 1 if self._joined else None]
        for number, (batch, length) in enumerate(shapes, start=1):
            rows = [text.stretched(length)] * batch
            for _ in range(WARM_UP_CALLS if number == 1 and not packed else 1):
                self.run(rows)
            logger.info("warm-up %d/%d: batch %d, length %d", number, len(shapes), batch, length)
        if self._device.type in CARDS:
            shapes = [*shapes, self._use_card(text)]
        if prices_matter(self._bundle, self._max_rows) and not self._joined:
            self._measure(text, shapes)
        self._time_longest(text)
        self._count.total = Tokens()
        logger.info("warm-up took %.1f s", time.perf_counter() - started)

    def _use_card(self, text: Row) -> tuple[int, int]:
        """Has rows run as is best on a GPU from now on; says a shape from which costs are told."""
        passes = CardPasses(
            CARDS[self._device.type](self._device),
            self._bundle,
            self._running,
            self._max_rows,
            self._take,
            self._count,
        )
        passes.fit(text)
        self._card = passes
        return passes.largest

    def _measure(self, text: Row, shapes: Sequence[tuple[int, int]]) -> None:
        """Times passes of each shape in turns; the fastest of each counts, the least disturbed."""
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
        """Learn the pace of this machine from the fastest of several passes of one long row."""
        row = text.stretched(min(self._bundle.max_length, LONGEST_TIMED))
        took = fastest(lambda: self._time([row]))
        self._pace = Pace()
        self._pace.saw(padded_length(len(row), self._bundle), took)

    def _time(self, rows: Sequence[Row]) -> float:
        """Seconds that rows of one length take; together, they are one pass."""
        started = time.perf_counter()
        self.run(rows)
        return time.perf_counter() - started


def warm_up_shapes(bundle: Bundle, max_rows: int) -> list[tuple[int, int]]:
    """`(batch, length)` pairs to run before the first request.

    After the first calls at one shape, any other costs what it always will; so these are few, and
    those from which costs are told: with few tokens, with more in several rows, and in one row.
    """
    lengths = sorted({min(max(length, bundle.min_length), bundle.max_length) for length in LENGTHS})
    if not bundle.dynamic_length:
        lengths = list(bundle.traced_lengths)
    shapes = [(1, length) for length in lengths]
    rows = min(max_rows, ROWS) if bundle.dynamic_batch else 1
    return shapes if rows == 1 else [*shapes, (rows, lengths[0])]


def prices_matter(bundle: Bundle, max_rows: int) -> bool:
    """Whether rows of different lengths may share a pass, so that batches follow from its cost."""
    return (
        max_rows > 1
        and bundle.dynamic_batch
        and bundle.mixes_lengths
        and bundle.min_length < bundle.max_length
    )
