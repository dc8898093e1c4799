"""What keys and values take, beside `max_batch_tokens`."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.export.generation.helpers import MAX_LENGTH
from tests.serving.generation.helpers import Written, post
from tests.serving.helpers import change
from torchscript_bundle.serving.api.http import HttpResponse
from torchscript_bundle.serving.generation.response_stream import ResponseStream

#: Slots are a power of two, and room has half as many places again: docs/generation.md.
FACTOR = 3


@pytest.mark.parametrize("tokens", [4 * MAX_LENGTH, 8 * MAX_LENGTH])
def test_reserved_memory_is_bounded(
    tokens: int, written: Callable[[str], Written], tmp_path: Path
) -> None:
    """Rows of all lengths join and leave at random times."""
    made = written("gpt2")
    folder = change(made.folder, tmp_path / "artifact", config={"max_batch_tokens": tokens})
    service = made.service(folder)
    config = made.model.config
    each = 2 * config.n_layer * config.n_embd * 4
    choice = random.Random(0)
    waiting = [
        post(
            {
                "inputs": "so it goes " * choice.randint(1, 3),
                "parameters": {"max_new_tokens": choice.randint(1, 30), "do_sample": True},
            }
        )
        for _ in range(60)
    ]
    opened: list[ResponseStream] = []
    most = 0
    while waiting or not all(exchange.done for exchange in opened):
        for _ in range(min(len(waiting), choice.randint(0, 3))):
            exchange = service.open(waiting.pop())
            assert not isinstance(exchange, HttpResponse), exchange.body
            opened.append(exchange)
        service.step()
        most = max(most, _reserved(service._scheduler._batch._cache[2:]))
    assert service.counts()["prompts"] >= 60
    assert tokens * each / 4 < most <= FACTOR * tokens * each


def _reserved(buffers: list[torch.Tensor]) -> int:
    """Bytes, of which views hold on to all."""
    storages = [buffer.untyped_storage() for buffer in buffers]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
