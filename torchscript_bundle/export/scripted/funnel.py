"""The positions of Funnel-Transformer (https://arxiv.org/abs/2006.03236), appendix A.2.1.

transformers lists positions in Python: a trace holds those of its example. transformers also tests
in Python whether a text is long enough to be pooled. Shorter texts fail, here too, or give the same
as if pooled.
"""

from functools import partial
from typing import Any

import torch

from torchscript_bundle.export.scripted.functions import modules_with, scripted


def adapt(model: torch.nn.Module) -> None:
    """Change a model in place; factorized attention has its positions in tensors already."""
    for structure in modules_with(model, "get_position_embeds"):
        if structure.config.attention_type == "relative_shift":
            structure.get_position_embeds = partial(position_embeds, structure.config)


def position_embeds(
    config: Any, length: int, dtype: torch.dtype, device: torch.device
) -> list[list[torch.Tensor | None]]:
    """`FunnelAttentionStructure.get_position_embeds`, for attention by relative shifts.

    For each block, return sinusoids of the distances within it, and from its pooled tokens to the
    tokens before pooling (None in the first block), `[distances, d_model]`.
    """
    half = config.d_model // 2
    frequencies = 1 / 10000 ** (torch.arange(half, device=device).to(dtype) / half)
    angles = torch.arange(-2 * length, 2 * length, device=device).to(dtype)[:, None] * frequencies
    table = torch.cat((angles.sin(), angles.cos()), dim=-1)

    def sinusoids(distances: torch.Tensor) -> torch.Tensor:
        # As in transformers, distances outside the table are an error.
        return table.index_select(0, distances + 2 * length)

    positions = torch.arange(length, device=device)
    embeds: list[list[torch.Tensor | None]] = [
        [sinusoids(relative(positions, positions, 1, 1)), None]
    ]
    for block in range(1, config.num_blocks):
        pooled = stride_pool(config, positions, block)
        pooling = sinusoids(relative(positions, pooled, 2 ** (block - 1), 2))
        embeds.append([sinusoids(relative(pooled, pooled, 2**block, 1)), pooling])
        positions = pooled
    return embeds


def stride_pool(config: Any, positions: torch.Tensor, block: int) -> torch.Tensor:
    """`stride_pool_pos`: every second position, `[tokens]` to `[pooled tokens]`."""
    if not config.separate_cls:
        return positions[::2]
    # The first token is separate, one step before the others.
    first = torch.full_like(positions[:1], 1 - 2**block)
    others = without_ends(positions) if config.truncate_seq else positions[1:]
    return torch.cat((first, others[::2]))


@scripted
def without_ends(positions: torch.Tensor) -> torch.Tensor:
    """Drop the first and the last, `[tokens]` to `[tokens - 2]`, or none from one."""
    if len(positions) == 2:
        raise ValueError("the text has too few tokens for this model, which fails at them itself")
    return positions[1:-1]


@scripted
def relative(
    positions: torch.Tensor, pooled: torch.Tensor, stride: int, shift: int
) -> torch.Tensor:
    """`relative_pos`: all distances of keys `[keys]` to queries `[queries]`, in descending order.

    `stride` is the distance from one query to the next, `shift` the keys for each query.
    """
    largest = int(pooled[0] - positions[0]) + shift * len(pooled) * stride
    smallest = int(pooled[0] - positions[-1])
    return torch.arange(largest, smallest - 1, -stride, device=positions.device)
