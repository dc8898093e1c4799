"""Several traces of one module, one for each length, behind a single `forward`.

TorchScript reads the annotations here, so they are not postponed. It works out what `forward`
returns, which is what the traces return, however many tensors that is.
"""

from collections.abc import Sequence

import torch

from torchscript_bundle.jit.deprecation import accept_deprecation


class _Dispatch(torch.nn.Module):
    """Scripted: the length picks the trace. TorchScript unrolls the loop over the list."""

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
    """The same with token types: TorchScript has no variable number of arguments."""

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
    """One module that runs `traces[i]` where the inputs have length `lengths[i]`.

    Traces of the same module share its parameters, and the saved file holds them once.

    Args:
        traces: each takes `inputs` tensors `[batch, length]` and returns a tuple of tensors.
        lengths: the length that each was traced at, distinct.
        inputs: 2 (ids and mask) or 3 (token types as well).
    """
    dispatch = {2: _TwoInputs, 3: _ThreeInputs}[inputs](traces, lengths)
    with accept_deprecation():
        return torch.jit.script(dispatch)
