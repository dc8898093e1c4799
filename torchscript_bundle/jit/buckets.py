"""Dispatch by length to several traces of one module, behind a single `forward`.

TorchScript reads the annotations here, so they are not postponed. It infers what `forward` returns
from what the traces return, however many tensors that is.
"""

from collections.abc import Sequence

import torch

from torchscript_bundle.jit.deprecation import accept_deprecation


class _Dispatch(torch.nn.Module):
    """Scripted; TorchScript unrolls the loop over the traces."""

    lengths: list[int]

    def __init__(self, traces: Sequence[torch.jit.ScriptModule], lengths: Sequence[int]) -> None:
        super().__init__()
        self.traces = torch.nn.ModuleList(traces)
        self.lengths = list(lengths)


class _TwoInputs(_Dispatch):
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor):  # type: ignore[no-untyped-def]
        for index, trace in enumerate(self.traces):
            if self.lengths[index] == input_ids.size(1):
                return trace(input_ids, attention_mask)
        raise ValueError(f"length {input_ids.size(1)} was not traced, only {self.lengths}")


class _ThreeInputs(_Dispatch):
    """With token types: TorchScript has no variable number of arguments."""

    def forward(  # type: ignore[no-untyped-def]
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ):
        for index, trace in enumerate(self.traces):
            if self.lengths[index] == input_ids.size(1):
                return trace(input_ids, attention_mask, token_type_ids)
        raise ValueError(f"length {input_ids.size(1)} was not traced, only {self.lengths}")


def dispatch_by_length(
    traces: Sequence[torch.jit.ScriptModule], lengths: Sequence[int], inputs: int
) -> torch.jit.ScriptModule:
    """Return a module that runs `traces[i]` on inputs of length `lengths[i]`, all distinct.

    The traces take `inputs` tensors `[batch, length]` each: 2 (ids and mask) or 3 (token types as
    well). They share the module's parameters, and the saved file holds them once.
    """
    dispatch = {2: _TwoInputs, 3: _ThreeInputs}[inputs](traces, lengths)
    with accept_deprecation():
        return torch.jit.script(dispatch)
