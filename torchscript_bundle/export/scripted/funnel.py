"""The positions of Funnel-Transformer (https://arxiv.org/abs/2006.03236), appendix A.2.1.

transformers lists them in Python, so that a trace holds those of its example. It also asks there
whether a text is long enough to be pooled. What it does with one that is not either fails, and so
it does here, or is what the pooling would have given.
"""

from functools import partial
from typing import Any

import torch

from torchscript_bundle.export.scripted.functions import modules_with, scripted


def adapt(model: torch.nn.Module) -> None:
    """Changes a model in place. Factorized attention counts positions in tensors already.

    Raises:
        LookupError: it makes no such positions.
    """
    for structure in modules_with(model, "get_position_embeds"):
        if structure.config.attention_type == "relative_shift":
            structure.get_position_embeds = partial(position_embeds, structure.config)


def position_embeds(
    config: Any, length: int, dtype: torch.dtype, device: torch.device
) -> list[list[torch.Tensor | None]]:
    """`FunnelAttentionStructure.get_position_embeds`, for attention by relative shifts.

    Args:
        config: of the model.
        length: tokens of each row.
        dtype: of the result.
        device: of the result.

    Returns:
        For each block, sinusoids of the distances within it, and of those from its pooled tokens to
        the tokens before the pooling (None in the first block). *Shape:* `[distances, d_model]`.
    """
    half = config.d_model // 2
    frequencies = 1 / 10000 ** (torch.arange(half, device=device).to(dtype) / half)
    angles = torch.arange(-2 * length, 2 * length, device=device).to(dtype)[:, None] * frequencies
    table = torch.cat((angles.sin(), angles.cos()), dim=-1)

    def sinusoids(distances: torch.Tensor) -> torch.Tensor:
        # As in transformers, a text without room for its distances in the table is an error.
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
    """`stride_pool_pos`: every second position. *Shape:* `[tokens]` to `[pooled tokens]`."""
    if not config.separate_cls:
        return positions[::2]
    # The first token stays apart, one step before the others.
    first = torch.full_like(positions[:1], 1 - 2**block)
    others = without_ends(positions) if config.truncate_seq else positions[1:]
    return torch.cat((first, others[::2]))


@scripted
def without_ends(positions: torch.Tensor) -> torch.Tensor:
    """All but the first and the last. *Shape:* `[tokens]` to `[tokens - 2]`, or none from one."""
    if len(positions) == 2:
        raise ValueError("the text has too few tokens for this model, which fails at them itself")
    return positions[1:-1]


@scripted
def relative(
    positions: torch.Tensor, pooled: torch.Tensor, stride: int, shift: int
) -> torch.Tensor:
    """`relative_pos`: all distances that there are, from the largest to the smallest.

    Args:
        positions: of keys. *Shape:* `[keys]`.
        pooled: of queries. *Shape:* `[queries]`.
        stride: from one query to the next.
        shift: queries are so many keys apart.
    """
    largest = int(pooled[0] - positions[0]) + shift * len(pooled) * stride
    smallest = int(pooled[0] - positions[-1])
    return torch.arange(largest, smallest - 1, -stride, device=positions.device)
