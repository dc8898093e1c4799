"""The gated delta rule (https://arxiv.org/abs/2412.06464), chunk by chunk.

transformers' `torch_chunk_gated_delta_rule`, the same in Qwen3-Next, Qwen3.5, Qwen4-Exp and OLMo
Hybrid, loops over chunks of 64 tokens in Python: a trace unrolls those of its example.
"""

from typing import Any

import torch

from torchscript_bundle.export.scripted.functions import replace_function, scripted

CHUNK = 64


def chunk_gated_delta_rule(
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
    """`torch_chunk_gated_delta_rule`; return the output, shaped as `value`, and the state or None.

    Args:
        query, key: `[batch, length, key heads, key size]`.
        value: `[batch, length, value heads, value size]`.
        g: log decay of the state, `[batch, length, value heads]`.
        beta: update strength of each token, shaped as `g`.
        initial_state: `[batch, value heads, key size, value size]`.
    """
    length, copies = key.shape[1], value.shape[2] // key.shape[2]
    if copies != 1:
        query, key = (each.repeat_interleave(copies, dim=2) for each in (query, key))
    turned = [each.transpose(1, 2).float() for each in (query, key, value, beta, g)]
    if use_qk_l2norm_in_kernel:
        turned[:2] = [_unit(turned[0]), _unit(turned[1])]
    filling = (CHUNK - length % CHUNK) % CHUNK
    sides = [(0, 0) * (each.dim() - 3) + (0, filling) for each in turned]
    filled = [torch.nn.functional.pad(each, side) for each, side in zip(turned, sides, strict=True)]
    output, state = _rule([each.unflatten(2, (-1, CHUNK)) for each in filled], initial_state)
    output = output[:, :, :length].transpose(1, 2).to(query.dtype).contiguous()
    return output, state if output_final_state else None


def _unit(x: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt((x * x).sum(dim=-1, keepdim=True) + 1e-6)


@scripted
def _rule(
    chunked: list[torch.Tensor], initial_state: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the output, `[batch, heads, chunks * chunk, value size]`, and the final state.

    `chunked` are queries, keys and values, `[batch, heads, chunks, chunk, size]`, beta and decay,
    the same without a size. The state is `[batch, heads, key size, value size]`.
    """
    query, key, value, beta, decay = chunked
    beta = beta.unsqueeze(-1)
    # Within chunks, all of them at once.
    query = query * query.shape[-1] ** -0.5
    decay = decay.cumsum(dim=3)
    size = decay.shape[3]
    future = torch.ones(size, size, dtype=torch.bool, device=query.device).triu(1)
    pairs = (decay.unsqueeze(4) - decay.unsqueeze(3)).masked_fill(future, -float("inf")).exp()
    k_beta = key * beta
    system = (k_beta @ key.transpose(-1, -2)) * pairs
    attention = (query @ key.transpose(-1, -2)) * pairs
    grown = decay.exp().unsqueeze(-1)
    values = torch.linalg.solve_triangular(system, value * beta, upper=False, unitriangular=True)
    reads = torch.linalg.solve_triangular(system, k_beta * grown, upper=False, unitriangular=True)
    query = query * grown
    key = key * (decay[..., -1:] - decay).exp().unsqueeze(-1)
    kept = decay[..., -1].exp().unsqueeze(-1).unsqueeze(-1)

    # From chunk to chunk.
    state = torch.zeros_like(key[:, :, 0].transpose(-1, -2) @ values[:, :, 0])
    if initial_state is not None:
        state = initial_state.to(values)
    outputs: list[torch.Tensor] = []
    for i in range(values.shape[2]):
        new = values[:, :, i] - reads[:, :, i] @ state
        outputs.append(query[:, :, i] @ state + attention[:, :, i] @ new)
        state = state * kept[:, :, i] + key[:, :, i].transpose(-1, -2) @ new
    return torch.cat(outputs, dim=2), state


#: Changes a model in place.
adapt = replace_function("torch_chunk_gated_delta_rule", lambda _: chunk_gated_delta_rule)
