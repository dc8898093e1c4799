"""The lightning attention of MiniMax (https://arxiv.org/abs/2501.08313), with its loop over blocks.

transformers' `MiniMaxLightningAttention` loops in Python over blocks of tokens: a trace unrolls
those of its example.
"""

from types import MethodType
from typing import Any

import torch

from torchscript_bundle.export.scripted.functions import modules_with, scripted


def adapt(model: torch.nn.Module) -> None:
    """Change a model in place."""
    for attention in modules_with(model, "diagonal_decay"):
        # A bound method follows its module when that is copied; a closure would not.
        attention.forward = MethodType(lightning_attention, attention)


def lightning_attention(
    self: Any,
    hidden_states: torch.Tensor,
    position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
    attention_mask: torch.Tensor | None = None,
    past_key_values: Any = None,
    **_: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`MiniMaxLightningAttention.forward`, `[batch, length, hidden]`.

    `attention_mask` marks the tokens that are not padding, `[batch, length]`. With a state in
    `past_key_values`, a `MiniMaxCache`, the model's own forward runs. The returned state is
    `[batch, heads, head size, head size]`.
    """
    cache = past_key_values
    if cache is not None and cache.get_linear_cache(self.layer_idx) is not None:
        result: tuple[torch.Tensor, torch.Tensor] = type(self).forward(
            self, hidden_states, position_embeddings, attention_mask, cache
        )
        return result
    states = self.act_fn(self.qkv_proj(hidden_states))
    if attention_mask is not None:
        states = (states * attention_mask[:, :, None]).to(states.dtype)
    states = states.unflatten(2, (self.num_attention_heads, -1)).transpose(1, 2)
    decays = [self.slope_rate, self.query_decay, self.key_decay, self.diagonal_decay]
    output, state = scan(states, decays, self.block_size)
    if cache is not None:
        cache.set_linear_cache(self.layer_idx, state)
    output = self.norm(output.transpose(1, 2).flatten(2))
    output = torch.sigmoid(self.output_gate(hidden_states)) * output
    return self.out_proj(output), state


@scripted
def scan(
    states: torch.Tensor, decays: list[torch.Tensor], block_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Carry the state, `[batch, heads, size, size]`, from block to block; attend within blocks.

    Args:
        states: queries, keys and values side by side, `[batch, heads, length, 3 * size]`.
        decays: the slope of each head, `[heads, 1, 1]`; the decay from the start of a block to each
            token, and from each token to its end, `[heads, block, 1]`; from each token to each
            other, `[1, heads, block, block]`.
        block_size: tokens of a block; the last may have fewer.
    """
    slope, query_decay, key_decay, diagonal_decay = decays
    size = states.size(3) // 3
    shape = [states.size(0), states.size(1), size, size]
    state = torch.zeros(shape, device=states.device, dtype=states.dtype)
    outputs: list[torch.Tensor] = []
    for block in states.split(block_size, dim=2):
        query, key, value = block.split(size, dim=3)
        length = block.size(2)
        inside = (query @ key.transpose(2, 3)) * diagonal_decay[:, :, :length, :length]
        before = (query * query_decay[:, :length]) @ state
        outputs.append(before + inside @ value)
        added = (key * key_decay[:, -length:]).transpose(2, 3) @ value
        state = state * torch.exp(-slope * length) + added
    return torch.cat(outputs, dim=2), state
