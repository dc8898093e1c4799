"""Rows through a module on a GPU: queued pass after pass, and waited for once."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial

import torch

from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.engine.batching import TokenCount, Tokens, pad_to, padded_length
from torchscript_bundle.serving.engine.costs import CostModel
from torchscript_bundle.serving.engine.cuda.buckets import Shape, graph_shapes
from torchscript_bundle.serving.engine.cuda.card import Card
from torchscript_bundle.serving.engine.cuda.copies import Fetch, Outputs, to_card, to_host
from torchscript_bundle.serving.engine.cuda.graph_capture import (
    TOLERANCES,
    Bounds,
    Forward,
    Graphs,
    capture_graphs,
)
from torchscript_bundle.serving.engine.cuda.planning import plan
from torchscript_bundle.serving.engine.cuda.sizing import (
    TokenLimit,
    is_out_of_memory,
    run_in_halves,
)
from torchscript_bundle.serving.engine.precisions import Running
from torchscript_bundle.serving.errors import ArtifactError
from torchscript_bundle.serving.text.tokenizer import Row

logger = logging.getLogger(__name__)

#: Environment variable that is 0 where no graph is to be captured.
CUDA_GRAPHS = "CUDA_GRAPHS"
#: Of free memory, how much graphs may take; and how long a worker captures (seconds).
GRAPHS_SHARE, GRAPHS_SECONDS = 0.25, 30.0
#: Rows of the pass whose memory is measured.
MEASURED_ROWS = 8


class CardPasses:
    """Runs rows on a card.

    Args:
        card: where the module is.
        bundle: the artifact's.
        running: the module; to be called under inference mode.
        max_rows: most rows of a pass.
        take: a pass's outputs, the number of a row and the row -> what is kept of its outputs.
        count: of what passes take in.
    """

    def __init__(
        self,
        card: Card,
        bundle: Bundle,
        running: Running,
        max_rows: int,
        take: Callable[[Outputs, int, Row], Outputs],
        count: TokenCount,
    ) -> None:
        self._card = card
        self._bundle = bundle
        self._forward: Forward = running.forward
        self._tolerance = TOLERANCES[running.precision]
        self._max_rows = max_rows if bundle.dynamic_batch else 1
        self._take = take
        self._count = count
        self._graphs = Graphs({})
        self._limit = TokenLimit(self._max_rows * bundle.max_length)

    @torch.inference_mode()
    def fit(self, text: Row) -> None:
        """Sizes passes for the memory that is free, and captures graphs.

        Args:
            text: a tokenized word; it is stretched.

        Raises:
            ArtifactError: an attempt at a graph has left the card unable to compute.
        """
        needed = self._bytes_per_token(text)
        self._limit = TokenLimit.of_memory(self._card.free(), needed)
        if os.environ.get(CUDA_GRAPHS) != "0":
            self._graphs = self._capture(text)
            # What graphs took is not free any more.
            self._limit = TokenLimit.of_memory(self._card.free(), needed)
        longest = text.stretched(self._bundle.max_length)
        rows = self._limit.rows(len(longest), self._max_rows)
        self([longest] * rows, CostModel())
        self._card.free()
        logger.info(
            "%d graphs; a token of a pass needs %.0f KB, up to %d tokens fit into one",
            len(self._graphs),
            needed / 1024,
            self._limit.tokens,
        )

    @property
    def largest(self) -> Shape:
        """Rows and length of a pass that keeps the card busy, to measure what tokens cost."""
        length = min(max(128, self._bundle.min_length), self._bundle.max_length)
        return self._limit.rows(length, self._max_rows), length

    def __call__(self, rows: Sequence[Row], costs: CostModel) -> list[Outputs]:
        """What is kept of each row's outputs, in order, on the host.

        Args:
            rows: of any lengths.
            costs: what a pass costs.

        Raises:
            SystemExit: the card computes nothing more in this process, which another can replace.
        """
        try:
            return self._run(rows, costs)
        except RuntimeError as error:
            if self._card.alive():
                raise
            raise SystemExit(f"the GPU failed ({type(error).__name__}); this worker ends") from None

    def _run(self, rows: Sequence[Row], costs: CostModel) -> list[Outputs]:
        lengths = [len(row) for row in rows]
        sent: list[tuple[Sequence[int], Fetch]] = []
        batches = plan(
            lengths, self._bundle, self._max_rows, costs, self._graphs.shape, self._limit
        )

        def send(indices: Sequence[int]) -> tuple[Sequence[int], Fetch]:
            return indices, self._pass([rows[index] for index in indices])

        for batch in batches:
            longest = lengths[batch[-1]]
            sent += run_in_halves(send, batch, partial(self._short, longest))
        self._card.wait()
        results: list[Outputs] = [()] * len(rows)
        for sent_rows, fetch in sent:
            for index, outputs in zip(sent_rows, fetch.rows(), strict=True):
                results[index] = outputs
        return results

    def _pass(self, rows: Sequence[Row]) -> Fetch:
        """Queues a pass. Rows that fill a bucket are like the first; nothing of them is kept."""
        length = padded_length(max(map(len, rows)), self._bundle)
        shape = self._graphs.shape(len(rows), length)
        filled = [*rows, *[rows[0]] * (shape[0] - len(rows))]
        host = to_host(self._card, pad_to(shape[1], filled, self._bundle))
        graph = self._graphs.get(shape)
        outputs = graph(host) if graph else self._forward(*to_card(self._card, host))
        fetch = Fetch(self._card, [self._take(outputs, *each) for each in enumerate(rows)])
        self._count.add(Tokens(shape[0] * shape[1], sum(map(len, rows))))
        return fetch

    def _short(self, longest: int, rows: int) -> None:
        """Makes room after a pass that got no memory, and lets no later one be as large."""
        rows, length = self._graphs.shape(rows, padded_length(longest, self._bundle))
        self._card.free()
        self._limit.lower(rows * length)

    def _bytes_per_token(self, text: Row) -> float:
        """At the greatest length, where attention needs most.

        Raises:
            RuntimeError: not even one row fits.
        """
        longest = text.stretched(self._bundle.max_length)
        rows = min(MEASURED_ROWS, self._max_rows)
        while True:
            try:
                peak = self._card.peak(partial(self._pass, [longest] * rows))
                return peak / (rows * len(longest))
            except RuntimeError as error:
                if rows == 1 or not is_out_of_memory(error):
                    raise
            rows //= 2

    def _capture(self, text: Row) -> Graphs:
        shapes = graph_shapes(self._bundle, self._max_rows, self._limit.tokens)
        examples = {shape: self._examples(text, *shape) for shape in shapes}
        bounds = Bounds(int(GRAPHS_SHARE * self._card.free()), GRAPHS_SECONDS)
        try:
            graphs = capture_graphs(self._card, self._forward, examples, self._tolerance, bounds)
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
        """Batches whose rows have other lengths each, and others in the second than the first."""
        shortest = min(len(text), length)
        spread = length - shortest + 1
        batches = []
        for shift in (0, spread // 2):
            lengths = [length - (shift + 7 * row) % spread for row in range(rows)]
            given = [text.stretched(each) for each in lengths]
            batches.append(to_host(self._card, pad_to(length, given, self._bundle)))
        return batches
