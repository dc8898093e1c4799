"""The executor of a GPU: it queues all passes and waits once."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import partial
from itertools import chain

import torch

from torchscript_bundle.serving.artifact import PRECISIONS
from torchscript_bundle.serving.engine.costs import CostModel, PassCosts
from torchscript_bundle.serving.engine.cuda.card import Card
from torchscript_bundle.serving.engine.cuda.copies import Fetch, to_card, to_host
from torchscript_bundle.serving.engine.cuda.graph_buckets import BucketCosts, Shape, graph_shapes
from torchscript_bundle.serving.engine.cuda.graph_capture import Bounds, Graphs, capture_graphs
from torchscript_bundle.serving.engine.cuda.sizing import (
    TokenLimit,
    is_out_of_memory,
    run_in_halves,
)
from torchscript_bundle.serving.engine.executors import Executor, ModuleExecutor, PassRows
from torchscript_bundle.serving.engine.padding import (
    Collator,
    Outputs,
    Tokens,
    pad_batch,
    padded_length,
)
from torchscript_bundle.serving.errors import ArtifactError
from torchscript_bundle.serving.observing.steps import forward
from torchscript_bundle.serving.text.tokenizer import Row

logger = logging.getLogger(__name__)

#: Environment variable that is 0 where no graph is to be captured.
CUDA_GRAPHS = "CUDA_GRAPHS"
#: The part of free memory for graphs, and the time for capturing them (seconds).
GRAPHS_FRACTION, GRAPHS_SECONDS = 0.25, 30.0
#: Rows of the pass whose memory is measured.
MEASURED_ROWS = 8


class CardExecutor(Executor):
    """Runs a module on a GPU, in CUDA graphs of the usual shapes; call it in inference mode."""

    def __init__(
        self, card: Card, executor: ModuleExecutor, collator: Collator, max_rows: int
    ) -> None:
        self._card = card
        self._forward = executor.forward
        self._collator = collator
        self._bundle = bundle = collator.bundle
        self._max_rows = max_rows if bundle.dynamic_batch else 1
        self._graphs = Graphs({})
        self._limit = TokenLimit(self._max_rows * bundle.max_length)
        self.precision = executor.precision
        self.reason = executor.reason
        self.warm_up_calls = executor.warm_up_calls
        self.holds_module = executor.holds_module

    @torch.inference_mode()
    def tune(self, text: Row) -> list[Shape]:
        """Limit passes to the free memory, and capture graphs."""
        needed = self._bytes_per_token(text)
        self._limit = TokenLimit.of_memory(self._card.free(), needed)
        if os.environ.get(CUDA_GRAPHS) != "0":
            self._graphs = self._capture(text)
            # Graphs took some of the free memory.
            self._limit = TokenLimit.of_memory(self._card.free(), needed)
        longest = text.stretched(self._bundle.max_length)
        self.run_passes([[[longest] * self._limit.rows(len(longest), self._max_rows)]])
        self._card.free()
        logger.info(
            "%d graphs; a token of a pass needs %.0f KB, up to %d tokens fit into one",
            len(self._graphs),
            needed / 1024,
            self._limit.tokens,
        )
        # A pass that keeps the card busy shows the cost of tokens.
        length = min(max(128, self._bundle.min_length), self._bundle.max_length)
        return [(self._limit.rows(length, self._max_rows), length)]

    def pass_costs(self, measured: CostModel) -> PassCosts:
        return BucketCosts(measured, self._graphs.shape, self._limit)

    def run_passes(self, passes: Sequence[PassRows]) -> list[Outputs]:
        """Queue all passes and wait once; halve a pass that gets no memory.

        SystemExit: this process can compute nothing more on the card; another can replace it.
        """
        try:
            fetches: list[Fetch] = []
            # The card runs the passes without a stop in between: they are one span.
            with forward(chain.from_iterable(passes)):
                for [rows] in passes:
                    longest = max(map(len, rows))
                    fetches += run_in_halves(self._queue, rows, partial(self._lower_limit, longest))
                self._card.wait()
            return [outputs for fetch in fetches for outputs in fetch.rows()]
        except RuntimeError as error:
            if self._card.alive():
                raise
            raise SystemExit(f"the GPU failed ({type(error).__name__}); this worker ends") from None

    def _queue(self, rows: Sequence[Row]) -> Fetch:
        """Queue a pass; copies of the first row fill its bucket, and their outputs are dropped."""
        length = padded_length(max(map(len, rows)), self._bundle)
        shape = self._graphs.shape(len(rows), length)
        filled = [*rows, *[rows[0]] * (shape[0] - len(rows))]
        host = to_host(self._card, pad_batch(filled, self._bundle, shape[1]))
        graph = self._graphs.get(shape)
        outputs = graph(host) if graph else self._forward(*to_card(self._card, host))
        fetch = Fetch(self._card, self._collator.separate(outputs, rows))
        self.tokens += Tokens(shape[0] * shape[1], sum(len(row) - row.padding for row in rows))
        return fetch

    def _lower_limit(self, longest: int, rows: int) -> None:
        """Free memory after a pass that got none, and keep later ones smaller."""
        rows, length = self._graphs.shape(rows, padded_length(longest, self._bundle))
        self._card.free()
        self._limit.lower(rows * length)

    def _bytes_per_token(self, text: Row) -> float:
        """Measure at the greatest length, where attention needs most."""
        longest = text.stretched(self._bundle.max_length)
        rows = min(MEASURED_ROWS, self._max_rows)
        while True:
            try:
                peak = self._card.peak(partial(self._queue, [longest] * rows))
                return peak / (rows * len(longest))
            except RuntimeError as error:
                if rows == 1 or not is_out_of_memory(error):
                    raise
            rows //= 2

    def _capture(self, text: Row) -> Graphs:
        shapes = graph_shapes(self._bundle, self._max_rows, self._limit.tokens)
        examples = {shape: self._examples(text, *shape) for shape in shapes}
        bounds = Bounds(int(GRAPHS_FRACTION * self._card.free()), GRAPHS_SECONDS)
        tolerance = PRECISIONS[self.precision].graph_tolerance
        try:
            graphs = capture_graphs(self._card, self._forward, examples, tolerance, bounds)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            logger.warning("no graphs: there is too little memory to try them")
            graphs = Graphs({})
        if not self._card.alive():
            raise ArtifactError(
                "the GPU does not compute any more after a CUDA graph could not be captured; set "
                f"{CUDA_GRAPHS}=0 in the environment of TorchServe to do without"
            )
        return graphs

    def _examples(self, text: Row, rows: int, length: int) -> list[torch.Tensor]:
        """Return two batches of one shape, whose rows all differ in length."""
        shortest = min(len(text), length)
        spread = length - shortest + 1
        batches = []
        for shift in (0, spread // 2):
            lengths = [length - (shift + 7 * row) % spread for row in range(rows)]
            given = [text.stretched(each) for each in lengths]
            batches.append(to_host(self._card, pad_batch(given, self._bundle, length)))
        return batches
