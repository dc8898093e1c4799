"""The RG-LRU of Griffin (https://arxiv.org/abs/2402.19427) with its loop over tokens.

`RecurrentGemmaRglru._rnn_scan` of transformers loops in Python: a trace unrolls the steps of its
example.
"""

import torch

from torchscript_bundle.export.scripted.functions import modules_with, scripted


def adapt(model: torch.nn.Module) -> None:
    """Change a model in place."""
    for layer in modules_with(model, "_rnn_scan"):
        layer._rnn_scan = rnn_scan
        layer.recurrent_states = None  # left by the last call; the tracer would save it


def rnn_scan(
    hidden_states: torch.Tensor,
    recurrent_gate: torch.Tensor,
    reset: torch.Tensor,
    recurrent_states: torch.Tensor | None,
    acc_dtype: torch.dtype = torch.float32,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`_rnn_scan`; return the states, and the one after the last token, `[batch, width]`.

    Args:
        hidden_states: `[batch, length, width]`.
        recurrent_gate: decay of each channel's state, shaped as `hidden_states`.
        reset: true where a text begins, `[batch or 1, length, 1]`.
        recurrent_states: state before the first token; zero if None, `[batch, width]`.
    """
    gate = (recurrent_gate * ~reset).type(acc_dtype)
    state = recurrent_states
    if state is None:
        state = torch.zeros_like(hidden_states[:, 0], dtype=acc_dtype)
    return scan(hidden_states, gate, state.to(gate.device))


@scripted
def scan(
    inputs: torch.Tensor, gate: torch.Tensor, state: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run `state = gate * state + input`, token by token; return each state and the last.

    `inputs` and `gate`, in the state's dtype, are `[batch, length, width]`, `state`
    `[batch, width]`.
    """
    states = torch.zeros_like(inputs)
    for index in range(inputs.size(1)):
        state = gate[:, index] * state
        state = state + inputs[:, index].type(gate.dtype)
        states[:, index] = state.type(inputs.dtype)
    return states, state
