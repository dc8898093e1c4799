"""The linear attention of RWKV (https://arxiv.org/abs/2305.13048) with its loop over tokens.

transformers' `rwkv_linear_attention` loops in Python (`rwkv_linear_attention_cpu`): a trace unrolls
the steps of its example.
"""

from collections.abc import Callable
from typing import Any

import torch

from torchscript_bundle.export.scripted.functions import modules_with, replace_function, scripted


def adapt(model: torch.nn.Module) -> None:
    """Change a model in place."""
    _rescale(model)
    replace_function("rwkv_linear_attention", _linear_attention)(model)


def _rescale(model: torch.nn.Module) -> None:
    """Divide copies of the weights that transformers would divide in place in the first forward.

    A trace would divide them at every call, and the original shares them.
    """
    for rwkv in modules_with(model, "_rescale_layers"):
        if rwkv.layers_are_rescaled or rwkv.training or rwkv.config.rescale_every <= 0:
            continue
        for block in rwkv.blocks:
            for linear in (block.attention.output, block.feed_forward.value):
                linear.weight = torch.nn.Parameter(linear.weight.detach().clone())
        rwkv._rescale_layers()


def _linear_attention(_: Callable[..., Any]) -> Callable[..., Any]:
    return linear_attention


def linear_attention(
    time_decay: torch.Tensor,
    time_first: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    state: list[torch.Tensor] | tuple[torch.Tensor, ...] | None = None,
    return_state: bool = False,
) -> tuple[torch.Tensor, list[torch.Tensor] | None]:
    """`rwkv_linear_attention_cpu` for any device; return output, shaped as `key`, and state.

    Args:
        time_decay: logarithm of how fast each channel forgets, `[hidden]`.
        time_first: bonus of the current token's exponent, `[hidden]`.
        key, value: `[batch, length, hidden]`.
        state: numerator, denominator and largest exponent, `[batch, hidden]` each.
        return_state: return the state even if none was given.
    """
    if state is None:
        zero = torch.zeros_like(key[:, 0], dtype=torch.float32)
        first = [zero, zero, zero - 1e38]
    else:
        first = list(state)
    output, last = wkv(-torch.exp(time_decay), time_first, key, value, first)
    return output, last if return_state or state is not None else None


@scripted
def wkv(
    decay: torch.Tensor,
    time_first: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    state: list[torch.Tensor],
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Average the values so far by the exponential of their keys, token by token.

    The sums are scaled by the exponential of the largest exponent so far, as in the paper's
    appendix on numerical stability. Each token adds `decay` to the exponents, `[hidden]`; other
    arguments and results are those of `linear_attention`.
    """
    numerator, denominator, largest = state[0], state[1], state[2]
    output = torch.zeros_like(key)
    for index in range(key.size(1)):
        k, v = key[:, index].float(), value[:, index]
        here = torch.maximum(largest, k + time_first)
        e1, e2 = torch.exp(largest - here), torch.exp(k + time_first - here)
        average = (e1 * numerator + e2 * v) / (e1 * denominator + e2)
        output[:, index] = average.to(output.dtype)

        after = torch.maximum(largest + decay, k)
        e1, e2 = torch.exp(largest + decay - after), torch.exp(k - after)
        numerator, denominator, largest = e1 * numerator + e2 * v, e1 * denominator + e2, after
    return output, [numerator, denominator, largest]
