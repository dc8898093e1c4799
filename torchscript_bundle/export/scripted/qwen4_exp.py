"""Qwen4-Exp's sparse attention: the text before a query decides which tokens it reads."""

import math
from typing import Any

import torch

from torchscript_bundle.jit.modes import compile_mode


@compile_mode("script")
class Choice(torch.nn.Module):
    """The loop of `Qwen4ExpTextQSAIndexer` over rows and queries.

    It stays a loop: scores of blocks are often equal (0 after the ReLU), and which of them `topk`
    takes depends on how many it is given. One call for all queries would choose others.
    """

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.k_layernorm = original.k_layernorm
        self.block_size = original.compress_ratio
        self.block_topk = original.block_topk
        self.scale = math.sqrt(original.index_head_dim)

    def forward(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        visible: torch.Tensor,
    ) -> torch.Tensor:
        """Choose the tokens that each query reads; bool, shaped as `visible`.

        Args:
            queries: rotated, `[batch, queries, heads, size]`.
            keys: of each token, not rotated, `[batch, keys, size]`.
            cos, sin: of each key's position, `[batch, keys, rotated size]`.
            visible: which tokens a query may read, `[batch, 1, queries, keys]`, bool.
        """
        chosen = torch.zeros_like(visible)
        for row in range(queries.shape[0]):
            for query in range(queries.shape[1]):
                tokens = torch.nonzero(visible[row, 0, query]).flatten()
                count = tokens.shape[0] // self.block_size
                if count > 0:
                    blocks = tokens[: count * self.block_size].view(count, self.block_size)
                    scores = self.score(queries[row, query], keys[row], cos[row], sin[row], blocks)
                    best = scores.topk(min(self.block_topk, count), dim=0)[1]
                    chosen[row, 0, query, blocks[best].flatten()] = True
                chosen[row, 0, query, tokens[count * self.block_size :]] = True
        return chosen

    def score(
        self,
        query: torch.Tensor,
        keys: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        blocks: torch.Tensor,
    ) -> torch.Tensor:
        """Score each block for a query: `[heads, size]`, `[blocks, block size]` -> `[blocks]`.

        A block's key is the mean of its tokens' keys, at the position of the first of them.
        """
        pooled = self.k_layernorm(keys[blocks].float().mean(dim=1).to(keys.dtype))
        rotated = rotate(pooled, cos[blocks[:, 0]], sin[blocks[:, 0]])
        scores = torch.matmul(query.float(), rotated.float().transpose(-1, -2)).transpose(-1, -2)
        return torch.relu(scores).sum(dim=-1) / self.scale


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Apply rotary positions to the first `cos.shape[-1]` channels."""
    turned, rest = x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]
    half = turned.shape[-1] // 2
    swapped = torch.cat((-turned[..., half:], turned[..., :half]), dim=-1)
    return torch.cat([turned * cos + swapped * sin, rest], dim=-1)


class Indexer(torch.nn.Module):
    """`Qwen4ExpTextQSAIndexer` with its loop in `Choice`; the rest is traced."""

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.layer_idx = original.layer_idx
        self.heads = original.index_n_heads
        self.size = original.index_head_dim
        self.index_qk_proj = original.index_qk_proj
        self.q_layernorm = original.q_layernorm
        self.choice = Choice(original)

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor,
        past_key_values: Any,
    ) -> torch.Tensor:
        """Choose the tokens that each query reads; bool, shaped as `attention_mask`.

        Args:
            hidden_states: `[batch, queries, hidden]`.
            position_embeddings: cosine and sine for each key, `[batch, keys, size]`.
            attention_mask: bool, or float with 0 for readable keys, `[batch, 1, queries, keys]`.
        """
        length = hidden_states.shape[1]
        cos, sin = position_embeddings
        projected = self.index_qk_proj(hidden_states).unflatten(-1, (-1, self.size))
        queries, keys = projected[:, :, : self.heads], projected[:, :, self.heads]
        queries = self.q_layernorm(queries)
        queries = rotate(queries, cos[:, -length:].unsqueeze(2), sin[:, -length:].unsqueeze(2))
        if past_key_values is not None:
            keys = past_key_values.update_indexer(keys, self.layer_idx)
        visible = attention_mask if attention_mask.dtype == torch.bool else attention_mask == 0
        chosen: torch.Tensor = self.choice(queries, keys, cos, sin, visible)
        return chosen
