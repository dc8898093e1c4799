"""Integrated gradients over the loaded module, by captum.

The baseline is the row with padding for its ordinary tokens. Special tokens are the same in both,
so their importance is 0. Source: Sundararajan et al., Axiomatic Attribution for Deep Networks,
https://arxiv.org/abs/1703.01365; captum's IntegratedGradients.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from torchscript_bundle.serving.artifact import TOKEN_LAYER, Bundle, Layer
from torchscript_bundle.serving.engine.pace import Pace, fastest
from torchscript_bundle.serving.engine.padding import pad_batch, padded_length
from torchscript_bundle.serving.engine.planner import plan_batches
from torchscript_bundle.serving.engine.runtime import LONGEST_TIMED
from torchscript_bundle.serving.engine.torchscript import WARM_UP_CALLS
from torchscript_bundle.serving.errors import ArtifactError
from torchscript_bundle.serving.explanations.target import Attribution, Target
from torchscript_bundle.serving.text.tokenizer import Row

try:
    from captum.attr import IntegratedGradients
except ImportError as error:
    raise ArtifactError(
        "the archive explains its answers by captum, which this Python has not; install it with "
        "`pip install 'captum>=0.9,<0.10'`, or make the artifact with captum_explanation false"
    ) from error

#: The longest forward and backward pass of more than one row (seconds): predictions wait for it.
PASS_SECONDS = 0.5


class Attributor:
    """Attributes numbers of a module's outputs, starting at a layer that it has methods for."""

    def __init__(
        self,
        module: Any,
        bundle: Bundle,
        device: torch.device,
        max_rows: int,
        layer: Layer = TOKEN_LAYER,
    ) -> None:
        self._module = module
        self._layer = layer
        self._forward = getattr(module, layer.forward)
        self._bundle = bundle
        self._device = device
        self._max_rows = max_rows if bundle.dynamic_batch else 1
        self._pace = Pace()
        for parameter in module.parameters():
            parameter.requires_grad_(False)

    def warm_up(self, word: Row) -> None:
        """Compile the backward pass by running it on a tokenized word, and time the longest row."""
        for _ in range(WARM_UP_CALLS):
            self._time([word] * min(2, self._max_rows))
        longest = word.stretched(min(LONGEST_TIMED, self._bundle.max_length))
        took = fastest(lambda: self._time([longest]))
        self._pace.saw(padded_length(len(longest), self._bundle), took)

    def _time(self, rows: Sequence[Row]) -> float:
        started = time.monotonic()
        inputs = self._tensors(rows)
        ids = self._bundle.inputs.index("input_ids")
        leaf = self._layer.run(self._module, inputs, ids).detach()
        outputs = self._forward(leaf.requires_grad_(), *inputs)
        torch.autograd.grad(torch.cat([each.flatten() for each in outputs]).sum(), leaf)
        return time.monotonic() - started

    def seconds(self, rows: Sequence[Row], steps: int) -> float:
        """Estimate the seconds of explaining one number of each row."""
        return steps * self._pace.seconds(padded_length(len(row), self._bundle) for row in rows)

    def attribute(
        self, targets: Sequence[Target], steps: int, pause: Callable[[], None]
    ) -> list[Attribution]:
        """Attribute the number of each target to tokens; call `pause` before each pass."""
        found: dict[int, Attribution] = {}
        for output in {target.output for target in targets}:
            of_output = [at for at, each in enumerate(targets) if each.output == output]
            lengths = [len(targets[at].row) for at in of_output]
            for batch in plan_batches(lengths, self._bundle, self._rows(max(lengths))):
                chosen = [of_output[at] for at in batch]
                answers = self._attribute([targets[at] for at in chosen], steps, pause)
                found.update(zip(chosen, answers, strict=True))
        return [found[at] for at in range(len(targets))]

    def _rows(self, length: int) -> int:
        fitting = self._pace.tokens(PASS_SECONDS) / padded_length(length, self._bundle)
        return int(max(1, min(fitting, self._max_rows)))

    def _attribute(
        self, targets: Sequence[Target], steps: int, pause: Callable[[], None]
    ) -> list[Attribution]:
        """Attribute targets of one output whose rows are one batch."""
        inputs = self._tensors([target.row for target in targets])
        baseline = self._tensors([self._baseline(target.row) for target in targets])
        ids = self._bundle.inputs.index("input_ids")
        with torch.no_grad():
            embeddings = self._layer.run(self._module, inputs, ids)
            baselines = self._layer.run(self._module, baseline, ids)
        length = inputs[ids].shape[1]
        places = torch.tensor([self._place(each, length) for each in targets], device=self._device)
        score = self._score(targets[0].output, pause)
        arguments = (*inputs, places)
        attributions, deltas = IntegratedGradients(score).attribute(
            embeddings,
            baselines,
            additional_forward_args=arguments,
            n_steps=steps,
            internal_batch_size=max(self._rows(length), len(targets)),
            return_convergence_delta=True,
        )
        with torch.no_grad():
            ends = score(embeddings, *arguments), score(baselines, *arguments)
        importances = attributions.sum(dim=-1)
        return [
            Attribution(
                importances=importances[at][self._shift(len(each.row), length) :][: len(each.row)]
                .cpu()
                .tolist(),
                output=ends[0][at].item(),
                baseline_output=ends[1][at].item(),
                delta=deltas[at].item(),
            )
            for at, each in enumerate(targets)
        ]

    def _score(self, output: int, pause: Callable[[], None]) -> Callable[..., torch.Tensor]:
        begun: list[tuple[int, float]] = []

        def score(embeddings: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
            """Return float `[batch]` of embeddings `[batch, length, dim]`, inputs and places."""
            if begun:  # between two calls is the backward pass of the first
                tokens, started = begun.pop()
                self._pace.saw(tokens, time.monotonic() - started)
            pause()
            begun.append((embeddings.shape[0] * embeddings.shape[1], time.monotonic()))
            *inputs, places = rest
            outputs = self._forward(embeddings, *inputs)
            index = self._index(output, inputs, places.unbind(1))
            scores: torch.Tensor = outputs[output][index]
            return scores

        return score

    def _index(
        self, output: int, inputs: Sequence[torch.Tensor], places: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        """Return where an output has the numbers of these places, one of each row."""
        rows = torch.arange(len(places[0]), device=self._device)
        special = self._bundle.outputs[output].special
        if special is None:
            return (rows, *places)
        named = dict(zip(self._bundle.inputs, inputs, strict=True))
        listed = named["input_ids"] == self._bundle.special_ids[special]
        listed &= named["attention_mask"] != 0
        order = listed.flatten().cumsum(0).view_as(listed) - 1
        token, *rest = places
        return (order[rows, token], *rest)

    def _tensors(self, rows: Sequence[Row]) -> tuple[torch.Tensor, ...]:
        return tuple(each.to(self._device) for each in pad_batch(rows, self._bundle))

    def _baseline(self, row: Row) -> Row:
        """Replace all but the special tokens by padding."""
        assert row.encoding is not None
        pairs = zip(row.input_ids, row.encoding.special_tokens_mask, strict=True)
        padding = self._bundle.padding.token_id
        return replace(row, input_ids=[each if special else padding for each, special in pairs])

    def _place(self, target: Target, length: int) -> tuple[int, ...]:
        if not target.per_token:
            return target.place
        token, *rest = target.place
        return (token + self._shift(len(target.row), length), *rest)

    def _shift(self, tokens: int, length: int) -> int:
        """Return the column of a row's first token in its batch."""
        return length - tokens if self._bundle.padding.side == "left" else 0
