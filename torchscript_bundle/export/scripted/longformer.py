"""The attention of Longformer (https://arxiv.org/abs/2004.05150), also that of LED's encoder.

transformers cuts texts into windows by strides, decides in Python whether to pad a text to whole
windows and whether a token has global attention, and counts such tokens by `len`: a trace keeps the
numbers of its example.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn.functional import pad

from torchscript_bundle.export.scripted.functions import modules_with
from torchscript_bundle.jit.modes import compile_mode


def fill_up(model: torch.nn.Module) -> None:
    """Change a model in place so that it gets texts padded to whole windows."""
    for module in modules_with(model, "_pad_to_window_size"):
        windows = module.config.attention_window
        window = windows if isinstance(windows, int) else max(windows)
        pad_token_id = module.config.pad_token_id
        module.forward = partial(in_whole_windows, module.forward, window, pad_token_id)


def in_whole_windows(
    forward: Callable[..., Any],
    window: int,
    pad_token_id: int,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    **named: Any,
) -> Any:
    """Call `forward` on texts padded to whole windows, and cut its output.

    `forward` is that of a `LongformerModel` or a `LEDEncoder`. `input_ids`, `attention_mask` and
    the named masks and types are `[batch, length]`.
    """
    length = input_ids.shape[1]
    sides = (0, -length % window)
    for name in ("global_attention_mask", "token_type_ids"):
        if named.get(name) is not None:
            named[name] = pad(named[name], sides)
    ids, mask = pad(input_ids, sides, value=pad_token_id), pad(attention_mask, sides)
    output = forward(input_ids=ids, attention_mask=mask, **named)
    output.last_hidden_state = output.last_hidden_state[:, :length]
    return output


@compile_mode("script")
class SelfAttention(torch.nn.Module):
    """`LongformerSelfAttention` and `LEDEncoderSelfAttention`, without dropout.

    Each token sees its neighbourhood and the global tokens, which see all. Blocks of half a window
    attend to themselves and their neighbours.
    """

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.heads = original.num_heads
        self.block = original.one_sided_attn_window_size
        self.scale = math.sqrt(original.head_dim)
        self.query, self.query_global = original.query, original.query_global
        self.key, self.key_global = original.key, original.key_global
        self.value, self.value_global = original.value, original.value_global

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor,
        is_index_masked: torch.Tensor,
        is_index_global_attn: torch.Tensor,
        is_global_attn: bool,
        output_attentions: bool = False,
    ) -> tuple[torch.Tensor]:
        """Return the attention output, shaped as `hidden_states`.

        Args:
            hidden_states: whole blocks of tokens, `[batch, length, hidden]`.
            attention_mask: 0 for ordinary tokens, `[batch, length]`.
            is_index_masked, is_index_global_attn: padding, global tokens, `[batch, length]`.
            is_global_attn, output_attentions: unused.
        """
        query = self.split_heads(self.query(hidden_states) / self.scale)
        key = self.split_heads(self.key(hidden_states))
        value = self.split_heads(self.value(hidden_states))

        # The global tokens of each row; rows with fewer than the most have others among them.
        count = int(is_index_global_attn.sum(1).max())
        is_real, tokens = is_index_global_attn.long().topk(count, dim=1)
        of_heads = tokens[:, None, :, None].expand(-1, self.heads, -1, key.size(3))
        far = query @ key.gather(2, of_heads).transpose(2, 3)
        far = far.masked_fill((is_real == 0)[:, None, None], -math.inf)

        near = self.in_blocks(query) @ self.with_neighbours(key)
        near = near.masked_fill(self.is_hidden(attention_mask), -math.inf)
        scores = torch.cat((self.in_blocks(far), near), dim=-1)
        weights = self.softmax(scores)
        # A row of padding sees nothing, for which softmax gives nan.
        weights = weights.masked_fill(self.in_blocks(is_index_masked[:, None, :, None]), 0.0)

        output = weights[..., count:] @ self.with_neighbours(value).transpose(3, 4)
        output = output + weights[..., :count] @ value.gather(2, of_heads)[:, :, None]
        output = self.join_heads(output.flatten(2, 3))
        if count > 0:
            of_states = tokens[:, :, None].expand(-1, -1, hidden_states.size(2))
            all_seen = self.see_all(hidden_states, of_states, is_index_masked)
            all_seen = torch.scatter(output, 1, of_states, all_seen)
            output = torch.where(is_index_global_attn[:, :, None], all_seen, output)
        return (output,)

    def see_all(
        self, hidden_states: torch.Tensor, of_states: torch.Tensor, is_masked: torch.Tensor
    ) -> torch.Tensor:
        """Return the outputs of global tokens, shaped as `of_states`.

        `of_states` holds the positions of these tokens, repeated, `[batch, global tokens, hidden]`.
        """
        chosen = hidden_states.gather(1, of_states)
        query = self.split_heads(self.query_global(chosen) / self.scale)
        key = self.split_heads(self.key_global(hidden_states))
        value = self.split_heads(self.value_global(hidden_states))
        scores = (query @ key.transpose(2, 3)).masked_fill(is_masked[:, None, None], -math.inf)
        return self.join_heads(self.softmax(scores) @ value)

    def is_hidden(self, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return which neighbours are hidden from a token: distant, padding and global ones.

        The result is `[batch, 1, blocks, block, 3 * block]`.
        """
        block = self.block
        is_ordinary = self.with_neighbours((attention_mask == 0)[:, None, :, None].float())
        ends = torch.ones(block, 3 * block, dtype=torch.bool, device=attention_mask.device)
        is_near = ends.triu() & ends.tril(2 * block)
        return (is_ordinary > 0).logical_and(is_near).logical_not()

    def in_blocks(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, heads, length, size]` to `[batch, heads, blocks, block, size]`."""
        return torch.unflatten(x, 2, [-1, self.block])

    def with_neighbours(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, heads, length, size]` to `[batch, heads, blocks, size, 3 * block]`."""
        filled = pad(x, [0, 0, self.block, self.block])
        return filled.unfold(2, 3 * self.block, self.block)

    def split_heads(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, tokens, hidden]` to `[batch, heads, tokens, head size]`."""
        return torch.unflatten(x, 2, [self.heads, -1]).transpose(1, 2)

    def join_heads(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, heads, tokens, head size]` to `[batch, tokens, hidden]`."""
        return x.transpose(1, 2).flatten(2)

    def softmax(self, scores: torch.Tensor) -> torch.Tensor:
        """Apply softmax in float32, and convert back."""
        return torch.softmax(scores, dim=-1, dtype=torch.float32).to(scores.dtype)
