"""The gated delta rule (https://arxiv.org/abs/2412.06464), chunk by chunk.

transformers' `torch_chunk_gated_delta_rule`, the same in Qwen3-Next, Qwen3.5, Qwen4-Exp and OLMo
Hybrid, loops over chunks of 64 tokens in Python: a trace holds as many as its example has.
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
    """The rule over whole texts.

    Args:
        query: *Shape:* `[batch, length, key heads, key size]`.
        key: *Shape:* that of `query`.
        value: *Shape:* `[batch, length, value heads, value size]`.
        g: logarithm of how much stays of the state. *Shape:* `[batch, length, value heads]`.
        beta: how much a token changes the state. *Shape:* that of `g`.
        initial_state: *Shape:* `[batch, value heads, key size, value size]`.
        output_final_state: whether the state is returned.
        use_qk_l2norm_in_kernel: whether queries and keys are scaled to length 1.

    Returns:
        *Shape:* that of `value`; and the state, or None.
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
    """The output and the state after it.

    Args:
        chunked: queries, keys and values, `[batch, heads, chunks, chunk, size]`, beta and decay,
            the same without a size.
        initial_state: *Shape:* `[batch, heads, key size, value size]`.

    Returns:
        *Shape:* `[batch, heads, chunks * chunk, value size]`, and that of the state.
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
