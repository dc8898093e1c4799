"""What the handler of the TorchServe example computed: each text alone, padded to one length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PretrainedConfig

from torchscript_bundle.export.inputs import InputMaker
from torchscript_bundle.jit.tracing import Tensors
from torchscript_bundle.serving.artifact import Output


class FirstOutputs(torch.nn.Module):
    """Returns the first outputs of a traced module as a tuple: others are hidden states."""

    def __init__(self, traced: torch.nn.Module, count: int) -> None:
        super().__init__()
        self.traced = traced
        self.count = count

    def forward(self, *inputs: torch.Tensor) -> Tensors:
        return first_outputs(self.traced(*inputs), self.count)


def first_outputs(outputs: Any, count: int) -> Tensors:
    """Return the first of what a traced module returned, one tensor or several, as a tuple."""
    return (outputs,) if isinstance(outputs, torch.Tensor) else tuple(outputs[:count])


class OldHandler(torch.nn.Module):
    """Runs a traced module as the old handler did, on rows of any length up to its own.

    `config` tells labels as the config of a transformers model does; `outputs` are the mode's.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        outputs: Sequence[Output],
        make_inputs: InputMaker,
        length: int,
        config: PretrainedConfig,
    ) -> None:
        super().__init__()
        self.module = module
        self.config = config
        self._outputs = tuple(outputs)
        self._make_inputs = make_inputs
        self._length = length

    def forward(self, *inputs: torch.Tensor) -> Tensors:
        """Return the outputs for int64 `[batch, length]` each, without the padding added here."""
        size = inputs[0].shape[1]
        rows = zip(*(column.split(1) for column in inputs), strict=True)
        answers = [self.module(*self._make_inputs.pad(row, self._length)) for row in rows]
        joined = [torch.cat(each) for each in zip(*answers, strict=True)]
        return tuple(
            self._make_inputs.unpad(each, size) if output.per_token else each
            for each, output in zip(joined, self._outputs, strict=True)
        )
