"""Masks and caches, outside a trace and inside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.jit.helpers import saved, trace
from torchscript_bundle.jit.attention import AttentionMask, KeyValueCache

LEFT = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]])


@pytest.mark.parametrize("mask", [LEFT, LEFT.bool()])
def test_mask_is_bool_and_gives_int64_back(mask: Tensor) -> None:
    attention = AttentionMask(mask)
    assert attention.mask.dtype == attention["mask"].dtype == torch.bool
    assert attention.int64().dtype == torch.int64
    assert torch.equal(attention.int64(), LEFT)


def test_positions_count_real_tokens_on_either_side() -> None:
    assert AttentionMask(LEFT).position_ids().tolist() == [[0, 1, 2, 3], [0, 0, 0, 1], [0] * 4]
    right = AttentionMask(LEFT.flip(1)).position_ids()
    assert right.tolist() == [[0, 1, 2, 3], [0, 1, 0, 0], [0] * 4]
    assert right.dtype == torch.int64


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (LEFT.float(), r"not torch.float32 \[3, 4\]"),
        (LEFT.int(), r"not torch.int32 \[3, 4\]"),
        (LEFT[0], r"not torch.int64 \[4\]"),
        (LEFT[:, None], r"not torch.int64 \[3, 1, 4\]"),
        (LEFT[:, None, None].float(), r"not torch.float32 \[3, 1, 1, 4\]"),
    ],
)
def test_other_masks_are_refused(mask: Tensor, says: str) -> None:
    with pytest.raises(
        ValueError, match=r"expected a bool or int64 mask \[batch, length\] or .*, " + says
    ):
        AttentionMask(mask)


CAUSAL = LEFT[:, None, None].bool() & torch.ones(4, 4, dtype=torch.bool).tril()


@pytest.mark.parametrize("mask", [CAUSAL, CAUSAL.long()])
def test_mask_may_say_what_each_query_sees(mask: Tensor) -> None:
    attention = AttentionMask(mask)
    assert attention.by_query().dtype == torch.bool
    assert torch.equal(attention.by_query(), CAUSAL)
    with pytest.raises(ValueError, match=r"not one of queries \[3, 1, 4, 4\]"):
        attention.int64()
    with pytest.raises(ValueError, match=r"not one of queries \[3, 1, 4, 4\]"):
        attention.position_ids()


class Attends(torch.nn.Module):
    def forward(self, values: Tensor, mask: Mapping[str, Tensor]) -> Tensor:
        seen = AttentionMask.jit_rewrap(mask).by_query()
        return torch.nn.functional.scaled_dot_product_attention(values, values, values, seen)


@pytest.mark.parametrize("mask", [LEFT[:2], CAUSAL[:2]], ids=["tokens", "queries"])
def test_either_mask_hides_from_attention_what_it_says(tmp_path: Path, mask: Tensor) -> None:
    module, attention = Attends(), AttentionMask(mask)
    values = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    example = AttentionMask(torch.ones_like(mask[:1]))
    traced = saved(trace(module, values[:1] * 2, example), tmp_path)
    answer = module(values, attention)
    torch.testing.assert_close(traced(values, attention), answer)
    query = values[1, 2, 3]  # the last one sees the last two tokens, in either mask
    weights = (values[1, 2, 2:] @ query / 5**0.5).softmax(0)
    torch.testing.assert_close(answer[1, 2, 3], weights @ values[1, 2, 2:])


@pytest.mark.parametrize("length", [0, 5])
def test_cache_keeps_keys_and_values_of_one_length(length: int) -> None:
    cache = KeyValueCache(torch.zeros(2, 4, length, 8), torch.zeros(2, 4, length, 6))
    assert cache["value"] is cache.value


@pytest.mark.parametrize("shape", [(2, 4, 6, 8), (2, 3, 5, 8), (1, 4, 5, 8), (2, 4, 5), (2, 4)])
def test_cache_of_other_shapes_is_refused(shape: tuple[int, ...]) -> None:
    says = r"expected key and value \[batch, heads, length, head_size\], not "
    with pytest.raises(ValueError, match=says):
        KeyValueCache(torch.zeros(2, 4, 5, 8), torch.zeros(shape))
    with pytest.raises(ValueError, match=says):
        KeyValueCache(torch.zeros(shape), torch.zeros(shape[:2]))


class Reads(torch.nn.Module):
    """Positions, and the mean of the cached values under the mask."""

    def forward(
        self, mask: Mapping[str, Tensor], cache: list[Mapping[str, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        attention = AttentionMask.jit_rewrap(mask)
        layers = [KeyValueCache.jit_rewrap(each) for each in cache]
        weights = attention.int64()[:, None, :, None]
        return attention.position_ids(), sum((each.value * weights).mean(2) for each in layers)


def arguments(batch: int, length: int) -> tuple[AttentionMask, list[KeyValueCache]]:
    torch.manual_seed(batch)
    layers = [KeyValueCache(*torch.randn(2, batch, 4, length, 3)) for _ in range(2)]
    mask = torch.arange(length)[None] >= torch.arange(batch)[:, None]
    return AttentionMask(mask), layers


@pytest.mark.parametrize(("batch", "length"), [(2, 5), (1, 1), (4, 9)])
def test_both_work_in_a_trace_at_any_shape(tmp_path: Path, batch: int, length: int) -> None:
    module = Reads()
    traced = saved(trace(module, *arguments(2, 5)), tmp_path)
    given = arguments(batch, length)
    assert all(map(torch.equal, traced(*given), module(*given)))
