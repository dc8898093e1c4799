"""The RG-LRU of Griffin (https://arxiv.org/abs/2402.19427) with its loop over tokens.

`RecurrentGemmaRglru._rnn_scan` of transformers loops in Python, so that a trace holds the steps of
its example, one after the other.
"""

import torch

from torchscript_bundle.export.scripted.functions import modules_with, scripted


def adapt(model: torch.nn.Module) -> None:
    """Changes a model in place.

    Raises:
        LookupError: it has no such layer.
    """
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
    """`_rnn_scan`.

    Args:
        hidden_states: *Shape:* `[batch, length, width]`.
        recurrent_gate: what each channel keeps of its state. *Shape:* that of `hidden_states`.
        reset: true where a text begins. *Shape:* `[batch or 1, length, 1]`.
        recurrent_states: state before the first token; zero if None. *Shape:* `[batch, width]`.
        acc_dtype: of the state.

    Returns:
        *Shape:* that of `hidden_states`; and the state after the last token, `[batch, width]`.
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
    """Runs `state = gate * state + input`, token by token.

    Args:
        inputs: *Shape:* `[batch, length, width]`.
        gate: in the state's dtype. *Shape:* that of `inputs`.
        state: *Shape:* `[batch, width]`.

    Returns:
        Each state, `[batch, length, width]`, and the last, `[batch, width]`.
    """
    states = torch.zeros_like(inputs)
    for index in range(inputs.size(1)):
        state = gate[:, index] * state
        state = state + inputs[:, index].type(gate.dtype)
        states[:, index] = state.type(inputs.dtype)
    return states, state
