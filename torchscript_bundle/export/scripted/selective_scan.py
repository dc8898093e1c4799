"""The selective scan of Mamba (https://arxiv.org/abs/2312.00752) with its loop over tokens.

transformers' `mamba_selective_scan` of mamba, falcon_mamba, jamba and zamba loops in Python: a
trace unrolls the steps of its example.
"""

from collections.abc import Callable
from typing import Any

import torch

from torchscript_bundle.export.scripted.functions import replace_function, scripted


def _selective_scan(_: Callable[..., Any]) -> Callable[..., Any]:
    return selective_scan


#: Changes a model in place.
adapt = replace_function("mamba_selective_scan", _selective_scan)


def selective_scan(
    hidden_states: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None = None,
    z: torch.Tensor | None = None,
    delta_bias: torch.Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    **_: Any,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """`mamba_selective_scan` without its kernels, whose options (`**_`) are ignored.

    Args:
        hidden_states, z: input and gate, `[batch, inner, length]`.
        dt: steps of time, before bias and softplus, shaped as `hidden_states`.
        A: `[inner, state]`.
        B, C: `[batch, state, length]`.
        D, delta_bias: skip connection, bias of `dt`, `[inner]`.
        return_last_state: return the state too, `[batch, inner, state]`.
    """
    if delta_bias is not None:
        dt = dt + delta_bias.to(dt.dtype)[..., None]
    if delta_softplus:
        dt = torch.nn.functional.softplus(dt)
    decay = torch.exp(A[None, :, None, :] * dt[:, :, :, None])
    inputs = dt[:, :, :, None] * B.transpose(1, 2)[:, None, :, :].float()
    inputs = inputs * hidden_states[:, :, :, None].float()
    output, state = scan(decay, inputs, C.transpose(1, 2))
    if D is not None:
        output = output + hidden_states * D[None, :, None]
    if z is not None:
        output = output * torch.nn.functional.silu(z)
    return (output, state) if return_last_state else output


@scripted
def scan(
    decay: torch.Tensor, inputs: torch.Tensor, C: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run `state = decay * state + input`, read out with `C`, token by token.

    `decay` and `inputs` are `[batch, inner, length, state]`, `C` is `[batch, length, state]`.
    Return the output, `[batch, inner, length]`, and the last state, `[batch, inner, state]`.
    """
    state = torch.zeros_like(inputs[:, :, 0], dtype=C.dtype)
    outputs: list[torch.Tensor] = []
    for index in range(decay.size(2)):
        state = decay[:, :, index] * state + inputs[:, :, index]
        read = torch.matmul(state.to(C.dtype), C[:, index, :].unsqueeze(-1))
        outputs.append(read[:, :, 0])
    return torch.stack(outputs, dim=-1), state
