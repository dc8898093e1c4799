"""Reformer (https://arxiv.org/abs/2001.04451), whose tokens attend to chunks of a text.

transformers decides in Python whether a text fits into one chunk, whether it fills its chunks and
whether a batch has padding, and draws the rotations of its hashes at every call; a trace keeps its
example's answers. Here the decisions are scripted, padding always has a bucket (the order of the
tokens is the same without padding), and the rotations are drawn once.
"""

import math
from functools import partial
from types import MethodType, SimpleNamespace
from typing import Any

import torch

from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.scripted.functions import modules_with, scripted


def adapt(model: torch.nn.Module) -> None:
    """Change a model in place, for inference in float32 without a cache.

    ExportError: its hashes are random, or depend on the first text.
    """
    attentions = modules_with(model, "chunk_length")
    chunks = [each.chunk_length for each in attentions]
    for body in modules_with(model, "_pad_to_mult_of_chunk_length"):
        shortest, filled = min(chunks), math.lcm(*chunks)
        body.forward = partial(fill_chunks, body.forward, shortest, filled)
    for axial in (each for each in model.modules() if hasattr(each, "axial_pos_shape")):
        axial.forward = MethodType(axial_positions, axial)
    for each in attentions:
        if hasattr(each, "hash_seed"):
            each.register_buffer("rotations", draw_rotations(each), persistent=False)
            each.forward = MethodType(hashed_forward, each)
        else:
            each.forward = MethodType(local_forward, each)


def fill_chunks(
    forward: Any,
    shortest: int,
    filled: int,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    **rest: Any,
) -> Any:
    """Call `ReformerModel.forward` on texts `[batch, length]` that fill their chunks.

    A text of up to `shortest` tokens is not padded; others are, to a multiple of `filled`.
    """
    ids, mask = filled_up(input_ids, shortest, filled), filled_up(attention_mask, shortest, filled)
    output = forward(ids, attention_mask=mask, **rest)
    output.last_hidden_state = output.last_hidden_state[:, : input_ids.shape[1]]
    return output


@scripted
def filled_up(rows: torch.Tensor, shortest: int, filled: int) -> torch.Tensor:
    """Pad rows with zeros on the right, which the mask hides, `[batch, length]`."""
    length = rows.size(1)
    if length <= shortest:
        return rows
    return torch.nn.functional.pad(rows, [0, (filled - length % filled) % filled])


def axial_positions(self: Any, position_ids: torch.Tensor) -> torch.Tensor:
    """`AxialPositionEmbeddings.forward`: `[batch, length]` to `[batch, length, hidden]`."""
    wide = [weight.expand(*self.axial_pos_shape, -1) for weight in self.weights]
    return torch.cat(wide, dim=-1).flatten(0, -2)[position_ids]


def draw_rotations(attention: Any) -> torch.Tensor:
    """Draw the rotations of `_hash_vectors` once, `[heads, head size, hashes, rotations]`."""
    if attention.hash_seed is None or attention.num_buckets is None:
        raise ExportError(
            "this Reformer hashes by chance, or by the length of the first text that it meets; set "
            "hash_seed and num_buckets in its config.json (any whole number, and an even one)"
        )
    weight, heads = attention.query_key.weight, attention.num_attention_heads
    shape = (
        heads,
        attention.attention_head_size,
        attention.num_hashes,
        sum(factors(attention)) // 2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(attention.hash_seed)
        return torch.randn(shape, device=weight.device, dtype=weight.dtype)


def factors(attention: Any) -> list[int]:
    """Return the number of buckets of each part of a hash; their product is that of a hash."""
    buckets = attention.num_buckets
    return [buckets] if isinstance(buckets, int) else list(buckets)


def hashed_forward(
    self: Any, hidden_states: torch.Tensor, attention_mask: torch.Tensor, **_: Any
) -> Any:
    """`LSHSelfAttention.forward`, `[batch, length, hidden]`, mask `[batch, length]`."""
    shared, value = (
        self._split_hidden_size_dim(each, self.num_attention_heads, self.attention_head_size)
        for each in (self.query_key(hidden_states), self.value(hidden_states))
    )
    around = [self.chunk_length, self.num_chunks_before, self.num_chunks_after]
    mask = attention_mask.bool()
    output = hashed(shared, value, mask, self.rotations, factors(self), self.is_decoder, around)
    output = output.transpose(1, 2).flatten(2)
    return SimpleNamespace(hidden_states=output, attention_probs=(), buckets=None)


def local_forward(
    self: Any, hidden_states: torch.Tensor, attention_mask: torch.Tensor, **_: Any
) -> Any:
    """`LocalSelfAttention.forward`. Shapes as in `hashed_forward`."""
    query, key, value = (
        self._split_hidden_size_dim(each, self.num_attention_heads, self.attention_head_size)
        for each in (self.query(hidden_states), self.key(hidden_states), self.value(hidden_states))
    )
    around = [self.chunk_length, self.num_chunks_before, self.num_chunks_after]
    key = key / math.sqrt(self.attention_head_size)
    positions = torch.arange(query.shape[2], device=query.device).expand(query.shape[:3])
    mask = attention_mask.bool()
    output = attend(query, key, value, positions, mask, self.is_decoder, False, around)[0]
    return SimpleNamespace(hidden_states=output.transpose(1, 2).flatten(2), attention_probs=())


def hashed(
    shared: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    rotations: torch.Tensor,
    factors: list[int],
    causal: bool,
    around: list[int],
) -> torch.Tensor:
    """Return attention among tokens with similar hashes, shaped as `value`.

    Args:
        shared, value: `[batch, heads, length, size]`; shared are queries and, normalised, keys.
        mask: true for a real token, `[batch, length]`.
        rotations, factors: results of `draw_rotations` and `factors`.
        causal: whether a token sees only those before it.
        around: length of a chunk, and chunks before and after it that its tokens see.
    """
    order = sort(shared, mask, rotations, factors, around[0])
    positions = order % mask.shape[1]
    at = positions.unsqueeze(-1).expand(-1, -1, -1, shared.shape[-1])
    query = shared.gather(2, at)
    key = query * torch.rsqrt(query.square().mean(-1, keepdim=True) + 1e-6)
    key = key / math.sqrt(rotations.shape[1])
    output, logits = attend(query, key, value.gather(2, at), positions, mask, causal, True, around)
    back = order.argsort(dim=-1).unsqueeze(-1)
    output = output.gather(2, back.expand_as(output)).unflatten(2, (-1, mask.shape[1]))
    rounds = logits.gather(2, back).unflatten(2, (-1, mask.shape[1]))
    # `softmax` would round such logarithms, some near -1e5, in another way.
    weights = torch.exp(rounds - torch.logsumexp(rounds, dim=2, keepdim=True))
    return torch.sum(output * weights, dim=2)


@scripted
def sort(
    vectors: torch.Tensor,
    mask: torch.Tensor,
    rotations: torch.Tensor,
    factors: list[int],
    chunk: int,
) -> torch.Tensor:
    """Order tokens by their hashes, one round of hashing after the other.

    Return indices, `[batch, heads, rounds * length]`; one round if a chunk holds the text.
    """
    length = mask.size(1)
    if length <= chunk:
        return torch.arange(length, device=mask.device).expand(vectors.shape[:3])
    rotated = torch.einsum("bmtd,mdhr->bmhtr", vectors, rotations)
    buckets = torch.zeros_like(rotated[..., 0], dtype=torch.int64)
    product, start = 1, 0
    for factor in factors:
        part = rotated[..., start : start + factor // 2]
        buckets = buckets + product * torch.cat([part, -part], dim=-1).argmax(dim=-1)
        product, start = product * factor, start + factor // 2
    buckets = buckets.masked_fill(mask.logical_not()[:, None, None], product)
    first = torch.arange(rotations.size(2), device=mask.device) * (product + 1)
    return (buckets + first[:, None]).flatten(2, 3).argsort(stable=True, dim=-1)


@scripted
def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    positions: torch.Tensor,
    mask: torch.Tensor,
    causal: bool,
    shy: bool,
    around: list[int],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend within chunks and their neighbours; also return the log of each sum of weights.

    Args:
        query, key, value: `[batch, heads, tokens, size]`.
        positions: of those tokens in the text, `[batch, heads, tokens]`.
        mask, causal, around: as for `hashed`; a text within a chunk has no neighbours.
        shy: a token sees itself only if it sees no other.
    """
    chunk, before, after = around[0], around[1], around[2]
    if mask.size(1) <= chunk:
        chunk, before, after = mask.size(1), 0, 0
    asks = positions.unflatten(2, [-1, chunk])
    keys: list[torch.Tensor] = []
    values: list[torch.Tensor] = []
    answers: list[torch.Tensor] = []
    for shift in range(-before, after + 1):
        keys.append(key.unflatten(2, [-1, chunk]).roll(-shift, 2))
        values.append(value.unflatten(2, [-1, chunk]).roll(-shift, 2))
        answers.append(asks.roll(-shift, 2))
    replies = torch.cat(answers, dim=3)
    dots = query.unflatten(2, [-1, chunk]) @ torch.cat(keys, dim=3).transpose(-1, -2)
    wide = [replies.size(0), replies.size(1), replies.size(2), -1]
    seen = mask[:, None, None].expand(wide).gather(3, replies).unsqueeze(3)
    if causal:
        seen = seen & (asks.unsqueeze(4) >= replies.unsqueeze(3))
    dots = dots.masked_fill(seen.logical_not(), -1e9)
    if shy:
        dots = dots.masked_fill(asks.unsqueeze(4) == replies.unsqueeze(3), -1e5)
    logits = dots.logsumexp(dim=-1, keepdim=True)
    output = (dots - logits).exp() @ torch.cat(values, dim=3)
    return output.flatten(2, 3), logits.flatten(2, 3)
