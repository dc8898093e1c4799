"""The compressed windows of DeepSeek-V4's attention, without a cache.

transformers asks in Python whether there is a whole window, and whether there are several: a trace
expects as many as its example has. A text may be shorter than one window.
"""

from types import MethodType
from typing import Any

import torch
from torch.nn.functional import pad

from torchscript_bundle.export.scripted.functions import modules_with, scripted


def adapt(model: torch.nn.Module) -> None:
    """Change a model in place."""
    for each in modules_with(model, "compress_rate"):
        if hasattr(each, "index_topk"):
            each.forward = MethodType(chosen_windows, each)
        elif hasattr(each, "indexer"):
            each.forward = MethodType(sparsely_chosen, each)
        else:
            each.forward = MethodType(heavily_compressed, each)


def compress(self: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    """Return one entry for each whole window, `[batch, 1, windows, head size]`.

    `self` is a compressor or an indexer, `hidden_states` is `[batch, length, hidden]`.
    """
    batch, windows = hidden_states.shape[0], hidden_states.shape[1] // self.compress_rate
    kv, gate = (
        projection(hidden_states)[:, : windows * self.compress_rate].reshape(
            batch, windows, self.compress_rate, projection.out_features
        )
        for projection in (self.kv_proj, self.gate_proj)
    )
    gate = gate + self.position_bias
    if kv.shape[3] > self.head_dim:  # half of it is for the next window
        kv, gate = with_last(kv, self.head_dim, 0.0), with_last(gate, self.head_dim, -torch.inf)
    weights = gate.softmax(dim=2, dtype=torch.float32).to(kv.dtype)
    entries: torch.Tensor = self.kv_norm((kv * weights).sum(dim=2))
    positions = torch.arange(windows, device=kv.device) * self.compress_rate
    cos, sin = self.rotary_emb(entries, positions[None].expand(batch, -1), self.rope_layer_type)
    return rotate(self, entries.unsqueeze(1), cos, sin)


def rotate(self: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Call the `apply_rotary_pos_emb` of the model's own file."""
    rotated: torch.Tensor = type(self).forward.__globals__["apply_rotary_pos_emb"](x, cos, sin)
    return rotated


def with_last(series: torch.Tensor, size: int, filling: float) -> torch.Tensor:
    """Put the part of the previous window before each window's own.

    `[batch, windows, tokens, 2 * size]` to `[batch, windows, 2 * tokens, size]`.
    """
    last = pad(series[..., :size], (0, 0, 0, 0, 1, 0), value=filling)[:, :-1]
    return torch.cat((last, series[..., size:]), dim=2)


def is_future(self: Any, windows: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
    """Return whether a token comes before the end of a window, `[batch, length, windows]`."""
    whole: torch.Tensor = (position_ids + 1) // self.compress_rate
    return windows >= whole.unsqueeze(-1)


def heavily_compressed(
    self: Any, hidden_states: torch.Tensor, _: Any, position_ids: torch.Tensor, *__: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """`DeepseekV4HCACompressor.forward`: each token sees all windows before it."""
    entries = compress(self, hidden_states)
    windows = torch.arange(entries.shape[2], device=entries.device)
    future = is_future(self, windows, position_ids).unsqueeze(1)
    bias = torch.zeros_like(future, dtype=entries.dtype).masked_fill(future, -torch.inf)
    return entries, bias.expand(entries.shape[0], -1, -1, -1)


def sparsely_chosen(
    self: Any, hidden_states: torch.Tensor, q_residual: torch.Tensor, *rest: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """`DeepseekV4CSACompressor.forward`: each token sees the windows that the indexer chooses."""
    entries = compress(self, hidden_states)
    chosen = self.indexer(hidden_states, q_residual, *rest)
    batch, length = hidden_states.shape[0], hidden_states.shape[1]
    # Column 0 takes the hidden windows, which the indexer gives as -1.
    bias = entries.new_full((batch, length, entries.shape[2] + 1), -torch.inf)
    bias = bias.scatter(-1, chosen + 1, 0.0)
    return entries, bias[:, None, :, 1:]


def chosen_windows(
    self: Any,
    hidden_states: torch.Tensor,
    q_residual: torch.Tensor,
    position_ids: torch.Tensor,
    *_: Any,
) -> torch.Tensor:
    """`DeepseekV4Indexer.forward`, `[batch, length, chosen]`."""
    batch, length = hidden_states.shape[0], hidden_states.shape[1]
    cos, sin = self.rotary_emb(hidden_states, position_ids, self.rope_layer_type)
    query = self.q_b_proj(q_residual).view(batch, length, -1, self.head_dim).transpose(1, 2)
    query = rotate(self, query, cos, sin).transpose(1, 2)
    scores = self.scorer(query, compress(self, hidden_states).squeeze(1), hidden_states)
    windows = torch.arange(scores.shape[2], device=scores.device)
    chosen = top(
        scores.masked_fill(is_future(self, windows, position_ids), -torch.inf), self.index_topk
    )
    return chosen.masked_fill(is_future(self, chosen, position_ids), -1)


@scripted
def top(scores: torch.Tensor, most: int) -> torch.Tensor:
    """Return the indices of the highest scores, `most` at most."""
    return scores.topk(min(most, scores.size(-1)), dim=-1)[1]
