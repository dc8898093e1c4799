"""Kimi delta attention (https://arxiv.org/abs/2510.26692), chunk by chunk.

The gated delta rule with a separate decay for each channel of the keys. transformers'
`chunk_kimi_delta_attention`, the same in Kimi Linear and Bailing Hybrid, loops over chunks of 64
tokens in Python: a trace unrolls those of its example.
"""

from typing import Any

import torch

from torchscript_bundle.export.scripted.functions import replace_function, scripted

CHUNK = 64


def chunk_kimi_delta_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    g: torch.Tensor,
    beta: torch.Tensor,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    **_: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """`chunk_kimi_delta_attention`; return the output, shaped as `value`, and the state or None.

    Args:
        query, key: `[batch, length, heads, key size]`.
        value: `[batch, length, heads, value size]`.
        g: log decay of the state, shaped as `query`.
        beta: update strength of each token, `[batch, length, heads]`.
        initial_state: `[batch, heads, key size, value size]`.
    """
    length = key.shape[1]
    given = (query, key, value, beta[..., None], g)
    turned = [each.transpose(1, 2).float() for each in given]
    if use_qk_l2norm_in_kernel:
        turned[:2] = [_unit(turned[0]), _unit(turned[1])]
    sides = (0, 0, 0, -length % CHUNK)
    filled = [torch.nn.functional.pad(each, sides) for each in turned]
    output, state = _rule([each.unflatten(2, (-1, CHUNK)) for each in filled], initial_state)
    output = output[:, :, :length].transpose(1, 2).to(query.dtype).contiguous()
    return output, state if output_final_state else None


def _unit(x: torch.Tensor) -> torch.Tensor:
    return x / torch.sqrt((x * x).sum(dim=-1, keepdim=True) + 1e-6)


@scripted
def _rule(
    chunked: list[torch.Tensor], initial_state: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the output, `[batch, heads, chunks * chunk, value size]`, and the final state.

    `chunked` are queries, keys, values, beta and decay, `[batch, heads, chunks, chunk, size]`; the
    size of beta is 1. The state is `[batch, heads, key size, value size]`.
    """
    query, key, value, beta, decay = chunked
    query = query * query.shape[-1] ** -0.5
    decay = decay.cumsum(dim=3)
    size = decay.shape[3]
    future = torch.ones(size, size, dtype=torch.bool, device=query.device).triu(1).unsqueeze(-1)
    state = torch.zeros_like(key[:, :, 0].transpose(-1, -2) @ value[:, :, 0])
    if initial_state is not None:
        state = initial_state.to(value)
    outputs: list[torch.Tensor] = []
    for i in range(value.shape[2]):
        q, k, b, d = query[:, :, i], key[:, :, i], beta[:, :, i], decay[:, :, i]
        # Decay from each earlier token to each token: [batch, heads, chunk, chunk, key size].
        left = (d.unsqueeze(3) - d.unsqueeze(2)).masked_fill(future, -float("inf")).exp()
        left = left * k.unsqueeze(2)
        system = b * (left * k.unsqueeze(3)).sum(-1)
        attention = (left * q.unsqueeze(3)).sum(-1)
        new = b * (value[:, :, i] - (k * d.exp()) @ state)
        new = torch.linalg.solve_triangular(system, new, upper=False, unitriangular=True)
        outputs.append((q * d.exp()) @ state + attention @ new)
        last = d[:, :, -1:]
        state = state * last.exp().transpose(2, 3) + (k * (last - d).exp()).transpose(2, 3) @ new
    return torch.cat(outputs, dim=2), state


#: Changes a model in place.
adapt = replace_function("chunk_kimi_delta_attention", lambda _: chunk_kimi_delta_attention)
