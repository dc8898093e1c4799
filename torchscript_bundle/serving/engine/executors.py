"""The executor protocol: the common interface of everything that runs batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from torchscript_bundle.serving.artifact import FLOAT32
from torchscript_bundle.serving.engine.costs import CostModel, PassCosts
from torchscript_bundle.serving.engine.memory import release_memory
from torchscript_bundle.serving.engine.onednn import Method, Packed
from torchscript_bundle.serving.engine.onednn.shared_weights import share_weights
from torchscript_bundle.serving.engine.padding import Collator, Outputs, Tokens
from torchscript_bundle.serving.engine.torchscript import WARM_UP_CALLS, Forward
from torchscript_bundle.serving.observing.steps import forward
from torchscript_bundle.serving.text.tokenizer import Row

#: The rows of each of the batches that are merged into one pass.
PassRows = Sequence[Sequence[Row]]


class Executor(ABC):
    """Runs planned passes of rows.

    Attributes:
        reason: why `precision` is not the artifact's; None if it is.
        merge_counts: numbers of batches that one pass may have besides one, ascending.
        warm_up_calls: how many calls at the first shape compile it.
        holds_module: whether it needs the module as saved.
        tokens: the total so far.
    """

    precision = FLOAT32
    reason: str | None = None
    merge_counts: Sequence[int] = ()
    warm_up_calls = 1
    holds_module = True
    tokens = Tokens()

    @abstractmethod
    def run_passes(self, passes: Sequence[PassRows]) -> list[Outputs]:
        """Return the outputs of each row, in the order of the passes, on the host."""

    def pass_costs(self, measured: CostModel) -> PassCosts:
        """Return the costs of this executor's passes, and the rows that fit into one."""
        return measured

    def tune(self, text: Row) -> list[tuple[int, int]]:
        """Adapt to the device once shapes are warm; return further `(batch, length)` to time."""
        return []

    def share_weights(self, folder: Path) -> None:
        """Hold packed weights in memory once for all workers with this folder."""
        return None


class ModuleExecutor(Executor):
    """Calls a module, or a function in its place, once per pass."""

    warm_up_calls = WARM_UP_CALLS

    def __init__(self, collator: Collator, forward: Forward, precision: str = FLOAT32) -> None:
        self.forward = forward
        self.precision = precision
        self._collator = collator

    def run_passes(self, passes: Sequence[PassRows]) -> list[Outputs]:
        results: list[Outputs] = []
        for batches in passes:
            inputs = [self._collator.collate(rows) for rows in batches]
            computed = sum(each[0].numel() for each in inputs)
            real = sum(len(row) - row.padding for rows in batches for row in rows)
            self.tokens += Tokens(computed, real)
            with forward(batches):
                found = self._call(inputs)
            for rows, outputs in zip(batches, found, strict=True):
                results += self._collator.separate(outputs, rows)
        return results

    def _call(self, inputs: Sequence[Outputs]) -> Sequence[Outputs]:
        [arguments] = inputs
        return [self.forward(*arguments)]


class PackedExecutor(ModuleExecutor):
    """Calls packed functions, already compiled and compared, which may merge batches."""

    warm_up_calls = 1
    holds_module = False

    def __init__(self, collator: Collator, packed: Packed, precision: str) -> None:
        super().__init__(collator, packed, precision)
        self._packed = packed
        self._merged: Mapping[int, Method] = packed.joined
        self.merge_counts = list(packed.joined)

    def _call(self, inputs: Sequence[Outputs]) -> Sequence[Outputs]:
        if len(inputs) == 1:
            return super()._call(inputs)
        outputs: Sequence[Outputs] = self._merged[len(inputs)](*chain.from_iterable(inputs))
        return outputs

    def share_weights(self, folder: Path) -> None:
        share_weights([*self._packed.methods.values(), *self._merged.values()], folder)
        release_memory()
